// What is done by hand, and what came of it.

import { post, undo } from "./api.js";
import { byId, setText } from "./dom.js";

let finished = () => {};
let fading;

// onFinished sets what is called after every action.
export function onFinished(f) {
	finished = f;
}

// operate does one thing, after a question if there is one, and says so.
export async function operate(said, method, path, body, question) {
	if (question && !(await confirmed(question))) {
		return;
	}
	try {
		await (method === "DELETE" ? undo(path) : post(path, body));
		say(said);
	} catch (e) {
		say(e.message);
	}
	finished();
}

function say(text) {
	setText(byId("outcome"), text);
	clearTimeout(fading);
	fading = setTimeout(() => setText(byId("outcome"), ""), 6000);
}

function confirmed({ title, text, yes }) {
	const dialog = byId("confirm");
	setText(byId("confirm-title"), title);
	setText(byId("confirm-text"), text);
	setText(byId("confirm-yes"), yes);
	return new Promise((resolve) => {
		const answer = (yes) => {
			dialog.close();
			resolve(yes);
		};
		byId("confirm-no").onclick = () => answer(false);
		byId("confirm-yes").onclick = () => answer(true);
		dialog.oncancel = () => resolve(false); // Escape
		dialog.showModal();
	});
}
