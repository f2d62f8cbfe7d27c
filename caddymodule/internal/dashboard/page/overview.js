// A table of all segments, for when there are many: each row opens the segment's card.

import { button, html, show, sorted } from "./dom.js";
import { bits, count, perSecond } from "./format.js";
import { table } from "./lists.js";
import { condition, droppedBy } from "./model.js";

// showOverview shows the table. opened are the names of the segments whose cards are shown, and
// toggle opens or closes one.
export function showOverview(place, status, histories, opened, toggle) {
	show(place, table(
		[["Segment"], ["State"], ["Flows", true], ["New", true], ["Out of it", true], ["Into it", true], ["Dropped", true]],
		sorted(status.segments).map(([name, segment]) => {
			const { sign, word, gravity } = condition(segment);
			const latest = histories.of("segments", name).latest;
			const rate = (format, field) => (latest ? format(latest[field]) : "–");
			return [
				button(name, `Segment ${name}`, () => toggle(name), { class: "link", "aria-expanded": String(opened.has(name)) }),
				html("span", { class: `badge ${gravity}` }, `${sign} ${word}`),
				count(segment.flows), rate(perSecond, "newFlows"), rate(bits, "bitsFrom"), rate(bits, "bitsTo"), count(droppedBy(segment)),
			];
		})));
}
