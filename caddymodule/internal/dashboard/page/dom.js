// Elements, made with text alone: nothing that comes from the network is parsed as
// HTML.

const namespaces = { html: "http://www.w3.org/1999/xhtml", svg: "http://www.w3.org/2000/svg" };

function make(namespace, tag, attributes, children) {
	const e = document.createElementNS(namespace, tag);
	for (const [name, value] of Object.entries(attributes)) {
		if (typeof value === "function") {
			e.addEventListener(name, value);
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

// setText changes a text that differs: what does not change is not announced again.
export function setText(e, text) {
	if (e.textContent !== text) {
		e.textContent = text;
	}
}

export const sorted = (object) => Object.entries(object ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
