// The page: it looks at the instance every two seconds while somebody looks at it.

import { onFinished } from "./actions.js";
import { get, Lost } from "./api.js";
import { BridgeCard, Cards, SegmentCard } from "./cards.js";
import { byId, setText } from "./dom.js";
import { clock, count } from "./format.js";
import { Histories, interval } from "./history.js";
import { Drops, Names, showBans, showClients, showEvents } from "./lists.js";
import { drawTopology } from "./topology.js";

const slow = 3; // of how many looks one is at clients, bans and events too

const histories = new Histories();
const drops = new Drops();
const names = new Names();
const bridges = new Cards(byId("bridges"), (name) => new BridgeCard(name));
const segments = new Cards(byId("segments"), (name) => new SegmentCard(name));
let status, seen, next, looking = false, again = false, looks = 0;

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
		seen = Date.now();
		histories.add(seen, status);
		if (everything || looks % slow === 0) {
			const [clients, bans, events] = await Promise.all([get("/vnic/clients?limit=10"), get("/vnic/bans?limit=20"), get("/vnic/events")]);
			showClients(byId("clients"), clients);
			showBans(byId("bans"), bans);
			showEvents(byId("events"), events);
		}
		looks++;
		show();
		connected();
	} catch (e) {
		lost(e);
	}
	looking = false;
	next = setTimeout(look, again ? 0 : interval, again);
}

function show() {
	drawTopology(byId("topology"), status, histories);
	bridges.update(status.bridges, status, (name) => histories.of("bridges", name), seen);
	segments.update(status.segments, status, (name) => histories.of("segments", name), seen);
	drops.show(byId("drops"), status, seen);
	names.show(byId("names"), status, seen);
}

function connected() {
	byId("lost").hidden = true;
	byId("main").classList.remove("stale");
	const reason = status.datapath_reason ? ` (${status.datapath_reason})` : "";
	setText(byId("connection"), "Live");
	setText(byId("summary"), `· data path ${status.datapath}${reason} · ${count(status.flows)} of ${count(status.max_flows)} flows`);
}

function lost(e) {
	looks = 0; // what comes next is looked at whole
	setText(byId("lost"), e instanceof Lost ? e.message : `This cannot be shown: ${e.message}`);
	byId("lost").hidden = false;
	byId("main").classList.add("stale");
	setText(byId("connection"), "Not connected");
	setText(byId("summary"), seen ? `· as of ${clock(seen)}` : "");
	if (!(e instanceof Lost)) {
		console.error(e);
	}
}

history.replaceState(null, "", "/"); // the token is spent
onFinished(() => look(true));
document.addEventListener("visibilitychange", () => look());
window.addEventListener("resize", () => status && drawTopology(byId("topology"), status, histories));
look();
