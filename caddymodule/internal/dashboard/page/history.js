// What the devices have carried, from counters: GET /vnic/status says what was counted so far, and
// GET /vnic/history what was counted in the hour before somebody looked.

export const interval = 2000; // ms, between looks

// The spans that charts can show.
export const spans = [{ label: "5 min", words: "5 minutes", ms: 5 * 60e3 }, { label: "1 h", words: "hour", ms: 3600e3 }];

const longest = spans.at(-1).ms;
const most = 150; // points in a chart
const apart = 25e3; // ms; samples further apart have a gap between them

// History keeps the counters of one device.
export class History {
	#samples = []; // {time, flows, newFlows, from, to}, by time

	add(time, { flows, new_flows: newFlows, bytes }) {
		this.#samples.push({ time, flows, newFlows, from: bytes.from, to: bytes.to });
		while (this.#samples[0].time < time - longest - apart) {
			this.#samples.shift();
		}
	}

	// merge adds samples that somebody else has taken, whose clock is behind by some time, where
	// there are none.
	merge(others, behind) {
		const own = this.#samples.map(({ time }) => time);
		for (const sample of others) {
			const time = Date.parse(sample.time) + behind;
			if (!own.some((t) => Math.abs(t - time) < interval / 2)) {
				this.add(time, sample);
			}
		}
		this.#samples.sort((a, b) => a.time - b.time);
	}

	// points are what a chart of a span shows: {time, gap, flows, newFlows, bitsFrom, bitsTo},
	// the last three a second. Each step of the span has one point at most, and always the same.
	points(span, now) {
		const step = Math.max(interval, span / most);
		const points = [];
		let last;
		for (const sample of this.#samples) {
			if (sample.time < now - span - Math.max(step, apart) ||
				last && (Math.floor(sample.time / step) === Math.floor(last.time / step) || sample.time - last.time < step / 2)) {
				continue;
			}
			const point = last && between(last, sample, Math.max(apart, 2.5 * step));
			if (point) {
				points.push(point);
			}
			last = sample;
		}
		return points;
	}

	get latest() {
		const last = this.#samples.at(-1);
		const before = last && this.#samples.findLast(({ time }) => time <= last.time - interval / 2);
		return before && between(before, last, apart);
	}
}

// between is what was carried from one sample to the next. Counters that went back are those of a
// device made anew.
function between(last, { time, flows, newFlows, from, to }, apart) {
	if (newFlows < last.newFlows || from < last.from || to < last.to) {
		return undefined;
	}
	const seconds = (time - last.time) / 1000;
	return {
		time, flows, gap: time - last.time > apart,
		newFlows: (newFlows - last.newFlows) / seconds,
		bitsFrom: 8 * (from - last.from) / seconds,
		bitsTo: 8 * (to - last.to) / seconds,
	};
}

// Histories are those of all devices, by kind and name.
export class Histories {
	#all = new Map();

	of(kind, name) {
		const key = `${kind} ${name}`;
		if (!this.#all.has(key)) {
			this.#all.set(key, new History());
		}
		return this.#all.get(key);
	}

	add(time, status) {
		this.#each(status, (history, device) => history.add(time, device));
	}

	// merge adds an answer to GET /vnic/history.
	merge(time, answer) {
		const behind = time - Date.parse(answer.now);
		this.#each(answer, (history, samples) => history.merge(samples, behind));
	}

	#each(answer, add) {
		for (const kind of ["bridges", "segments"]) {
			for (const [name, device] of Object.entries(answer[kind])) {
				add(this.of(kind, name), device);
			}
		}
	}
}
