// Elements, made with text alone: nothing that comes from the network is parsed as
// HTML.

const namespaces = { html: "http://www.w3.org/1999/xhtml", svg: "http://www.w3.org/2000/svg" };

// make sets functions as handlers: onclick, not click, so that morph can pass them on.
function make(namespace, tag, attributes, children) {
	const e = document.createElementNS(namespace, tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (typeof value === "function") {
			e[name] = value;
		} else if (value !== undefined) {
			e.setAttribute(name, value);
		}
	}
	e.append(...children.map((c) => (c instanceof Node ? c : String(c))));
	return e;
}

export const html = (tag, attributes = {}, ...children) => make(namespaces.html, tag, attributes, children);
export const svg = (tag, attributes = {}, ...children) => make(namespaces.svg, tag, attributes, children);
export const byId = (id) => document.getElementById(id);

// button does what it says when it is pressed.
export const button = (text, label, press, attributes) => html("button", { type: "button", "aria-label": label, onclick: press, ...attributes }, text);

// setText changes a text that differs: what does not change is not announced again.
export function setText(e, text) {
	if (e.textContent !== text) {
		e.textContent = text;
	}
}

// show makes children those of a place. Elements that are there already stay, so that the focus, a
// selection and the scrolling stay where they are.
export function show(place, ...children) {
	children = children.filter(Boolean);
	while (place.childNodes.length > children.length) {
		place.lastChild.remove();
	}
	children.forEach((child, i) => (i < place.childNodes.length ? morph(place.childNodes[i], child) : place.append(child)));
}

// morph gives a node what another one has.
function morph(old, fresh) {
	if (old.nodeName !== fresh.nodeName) {
		old.replaceWith(fresh);
	} else if (old.nodeType === Node.TEXT_NODE) {
		setText(old, fresh.data);
	} else {
		for (const { name } of [...old.attributes]) {
			if (!fresh.hasAttribute(name)) {
				old.removeAttribute(name);
			}
		}
		for (const { name, value } of fresh.attributes) {
			if (old.getAttribute(name) !== value) {
				old.setAttribute(name, value);
			}
		}
		old.onclick = fresh.onclick;
		show(old, ...fresh.childNodes);
	}
}

export const sorted = (object) => Object.entries(object ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
