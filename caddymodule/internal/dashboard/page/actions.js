// What is done by hand, and what came of it.

import { send } from "./api.js";
import { byId, html, setText } from "./dom.js";

let finished = () => {};
let fading;

// onFinished sets what is called after every action.
export function onFinished(f) {
	finished = f;
}

// operate does one thing, after a question if there is one, and says so.
export async function operate(said, method, path, body, question) {
	if (question && !(await ask(question))) {
		return;
	}
	try {
		await send(method, path, body);
		say(said);
	} catch (e) {
		say(e.message);
	}
	finished();
}

export function say(text) {
	setText(byId("outcome"), text);
	clearTimeout(fading);
	fading = setTimeout(() => setText(byId("outcome"), ""), 6000);
}

// ask asks a question, which may have fields: {name, label, value, placeholder, required}, or with
// options as [value, text]. It returns what they have by name, or undefined if the answer is no.
export function ask({ title, text, yes, grave = true, fields = [] }) {
	const dialog = byId("confirm");
	setText(byId("confirm-title"), title);
	setText(byId("confirm-text"), text);
	setText(byId("confirm-yes"), yes);
	byId("confirm-yes").className = grave ? "grave" : "plain";
	byId("confirm-fields").replaceChildren(...fields.map(field));
	const form = byId("confirm-form");
	return new Promise((resolve) => {
		const answer = (values) => {
			dialog.close();
			resolve(values);
		};
		byId("confirm-no").onclick = () => answer(undefined);
		form.onsubmit = (e) => {
			e.preventDefault();
			answer(Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()])));
		};
		dialog.oncancel = () => resolve(undefined); // Escape
		dialog.showModal();
	});
}

function field({ name, label, options, value = "", placeholder, required }) {
	const id = `confirm-${name}`;
	const input = options
		? html("select", { id, name }, ...options.map(([value, text]) => html("option", { value }, text)))
		: html("input", { id, name, value, placeholder, required: required ? "" : undefined, autocomplete: "off", spellcheck: "false" });
	return html("p", {}, html("label", { for: id }, label), input);
}
