// The page: it looks at the instance every two seconds while somebody looks at it.

import { onFinished } from "./actions.js";
import { get, Lost } from "./api.js";
import { BridgeCard, Cards, SegmentCard } from "./cards.js";
import { button, byId, setText } from "./dom.js";
import { Flows } from "./flows.js";
import { clock, count } from "./format.js";
import { Histories, interval, spans } from "./history.js";
import { Drops, Names, showBans, showClients, showEvents } from "./lists.js";
import { isMany } from "./model.js";
import { showOverview } from "./overview.js";
import { drawTopology } from "./topology.js";

const slow = 3 * interval; // ms, between looks at flows, clients, bans and events
const share = 0.1;         // of the time that such looks take at most, however large the flow table is

const histories = new Histories();
const drops = new Drops();
const names = new Names();
const flows = new Flows();
const bridges = new Cards(byId("bridges"), (name) => new BridgeCard(name));
const segments = new Cards(byId("segments"), (name) => new SegmentCard(name));
const opened = new Set(); // the segments whose cards the table of segments has opened
let status, seen, next, looking = false, again = false, lookAtAll = 0;
let span = spans[0], asTable; // undefined: as the number of segments asks for

async function look(everything = false) {
	clearTimeout(next);
	if (looking) {
		again ||= everything;
		return;
	}
	if (document.hidden) {
		return; // whoever comes back looks again
	}
	looking = true;
	again = false;
	try {
		status = await get("/vnic/status");
		if (!seen || Date.now() - seen > 3 * interval) {
			histories.merge(Date.now(), await get("/vnic/history"));
		}
		seen = Date.now();
		histories.add(seen, status);
		flows.offer(status);
		show();
		if (everything || Date.now() >= lookAtAll) {
			await showLists();
		}
		connected();
	} catch (e) {
		lost(e);
	}
	looking = false;
	next = setTimeout(look, again ? 0 : interval, again);
}

// showLists looks at what takes the instance longer to tell.
async function showLists() {
	const began = Date.now();
	const [clients, bans, events] = await Promise.all([get("/vnic/clients?limit=10"), get("/vnic/bans?limit=20"), get("/vnic/events"), flows.look()]);
	const bridgeNames = status.role ? [] : Object.keys(status.bridges).sort(); // where one may ban
	showClients(byId("clients"), clients, bridgeNames, (client) => flows.of(client));
	showBans(byId("bans"), bans, bridgeNames);
	showEvents(byId("events"), events);
	lookAtAll = Date.now() + Math.max(slow - interval / 2, (Date.now() - began) / share);
}

function show() {
	drawTopology(byId("topology"), status, histories);
	const view = { now: seen, span }, tabular = asTable ?? isMany(status);
	bridges.update(status.bridges, status, (name) => histories.of("bridges", name), view);
	segments.update(status.segments, status, (name) => histories.of("segments", name), view, (name) => !tabular || opened.has(name));
	byId("bridges").hidden = Boolean(status.role); // whoever administrates one segment sees what bridges carry for it there
	setText(byId("devices-title"), status.role ? `Segment ${status.role}` : "Bridges and segments");
	byId("overview").hidden = !tabular;
	byId("views").hidden = !isMany(status);
	press(byId("views"), tabular ? 0 : 1);
	press(byId("spans"), spans.indexOf(span));
	if (tabular) {
		showOverview(byId("overview"), status, histories, opened, (name) => {
			opened.delete(name) || opened.add(name);
			show();
		});
	}
	drops.show(byId("drops"), status, seen);
	names.show(byId("names"), status, seen);
}

// press shows which of some buttons is chosen.
function press(group, chosen) {
	[...group.children].forEach((b, i) => b.setAttribute("aria-pressed", String(i === chosen)));
}

function connected() {
	byId("lost").hidden = true;
	byId("main").classList.remove("stale");
	document.title = "caddy-vnic";
	const reason = status.datapath_reason ? ` (${status.datapath_reason})` : "";
	setText(byId("connection"), "Live");
	setText(byId("summary"), `· data path ${status.datapath}${reason} · ${count(status.flows)} of ${count(status.max_flows)} flows`);
	setText(byId("version"), status.version);
}

function lost(e) {
	lookAtAll = 0; // what comes next is looked at whole
	setText(byId("lost-text"), e instanceof Lost ? e.message : `This cannot be shown: ${e.message}`);
	setText(byId("lost-since"), seen ? `What you see is as of ${clock(seen)}.` : "");
	byId("lost").hidden = false;
	byId("main").classList.add("stale");
	document.title = "⚠ Not connected – caddy-vnic";
	setText(byId("connection"), "Not connected");
	setText(byId("summary"), seen ? `· as of ${clock(seen)}` : "");
	if (!(e instanceof Lost)) {
		console.error(e);
	}
}

byId("spans").append(...spans.map((s) => button(s.label, `Charts show the last ${s.label}`, () => {
	span = s;
	show();
})));
byId("views").append(...["Table", "Cards"].map((view, i) => button(view, `Segments as ${view.toLowerCase()}`, () => {
	asTable = i === 0;
	show();
})));
history.replaceState(null, "", "/"); // the token is spent
onFinished(() => look(true));
document.addEventListener("visibilitychange", () => look());
window.addEventListener("resize", () => status && drawTopology(byId("topology"), status, histories));
look();
