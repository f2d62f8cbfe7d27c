// The admin API, as far as the dashboard forwards it.

// Lost is an answer that did not come: message says to a person what is to be done.
export class Lost extends Error {}

async function ask(method, path, body, signal = AbortSignal.timeout(10000)) {
	let response;
	try {
		response = await fetch(path, {
			method,
			body: body === undefined ? undefined : JSON.stringify(body),
			headers: { Accept: "application/json", "Content-Type": "application/json" },
			signal,
		});
	} catch {
		throw new Lost("The command caddy vnic dashboard does not answer. If it has ended, run it again and open the address that it prints.");
	}
	if (response.ok) {
		return response;
	}
	const text = await response.text();
	let message = text, fromInstance = false;
	try {
		message = JSON.parse(text).error ?? text;
		fromInstance = true;
	} catch {
		// It is text, of the dashboard itself.
	}
	if (response.status === 403 && !fromInstance) {
		throw new Lost("This page's session is over. Run caddy vnic dashboard again and open the address that it prints.");
	}
	if (response.status >= 502) {
		throw new Lost(`Caddy cannot be asked: ${message}. Trying again.`);
	}
	throw new Error(message);
}

export const get = async (path) => (await ask("GET", path)).json();
export const send = (method, path, body) => ask(method, path, body);

// stream is a response whose body goes on until a signal ends it.
export const stream = (path, signal) => ask("GET", path, undefined, signal);

// query is a path with those parameters that are not empty.
export function query(path, parameters) {
	return `${path}?${new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== ""))}`;
}
