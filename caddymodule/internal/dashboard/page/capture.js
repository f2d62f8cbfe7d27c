// Captures: the page takes in what comes, shows how much that is, and saves it as a file.

import { ask, say } from "./actions.js";
import { query, stream } from "./api.js";
import { button, byId, html, setText } from "./dom.js";
import { bytes, count } from "./format.js";

const durations = [["10s", "10 seconds"], ["30s", "30 seconds"], ["1m", "1 minute"], ["5m", "5 minutes"]];

// capture captures a segment or a bridge.
export async function capture(kind, name) {
	const wanted = await ask({
		title: `Capture ${kind} ${name}`,
		text: "Each packet is in the file twice: before the bridge rewrites it, and after. Wireshark opens the file.",
		yes: "Start", grave: false,
		fields: [
			{ name: "duration", label: "For", options: durations },
			{ name: "client", label: "Only flows of this client or network", placeholder: "any" },
			{ name: "filter", label: "Only packets that match, as for tcpdump", placeholder: "tcp port 80" },
		],
	});
	if (!wanted) {
		return;
	}
	const end = new AbortController(), parts = [], began = Date.now();
	let size = 0;
	const told = html("span");
	const bar = html("p", { class: "capture" }, told, button("Stop and save", `Stop and save the capture of ${kind} ${name}`, () => end.abort()));
	const tell = () => setText(told, `Capturing ${kind} ${name}: ${Math.round((Date.now() - began) / 1000)} s, ${bytes(size)}`);
	const ticking = setInterval(tell, 1000);
	tell();
	byId("captures").append(bar);
	try {
		const body = (await stream(query("/vnic/capture", { of: `${kind}/${name}`, ...wanted }), end.signal)).body.getReader();
		for (let part = await body.read(); !part.done; part = await body.read()) {
			parts.push(part.value);
			size += part.value.length;
		}
	} catch (e) {
		if (!end.signal.aborted) {
			say(`Capturing ${kind} ${name}: ${e.message}`);
		}
	}
	clearInterval(ticking);
	bar.remove();
	if (size > 0) {
		save(`${name}.pcapng`, whole(new Uint8Array(await new Blob(parts).arrayBuffer())));
	}
}

const packetBlock = 6;

// whole is a pcapng file as far as its last whole block, and the number of its packets. A block
// begins with its type and its length, the least significant byte first.
function whole(file) {
	const view = new DataView(file.buffer);
	let end = 0, packets = 0;
	while (end + 12 <= file.length) {
		const length = view.getUint32(end + 4, true);
		if (length < 12 || end + length > file.length) {
			break;
		}
		packets += view.getUint32(end, true) === packetBlock ? 1 : 0;
		end += length;
	}
	return { content: file.subarray(0, end), packets };
}

function save(name, { content, packets }) {
	const url = URL.createObjectURL(new Blob([content], { type: "application/x-pcapng" }));
	html("a", { href: url, download: name }).click();
	setTimeout(() => URL.revokeObjectURL(url), 60000);
	say(`${name} is saved: ${count(packets)} packets.`);
}
