// The last minutes, from counters: GET /vnic/status says what was counted so far.

export const span = 5 * 60 * 1000; // ms
export const interval = 2000; // ms, between looks

// History keeps what one device carried.
export class History {
	#last;
	points = []; // {time, gap, flows, and rates a second: newFlows, packetsFrom, packetsTo, bitsFrom, bitsTo}

	add(time, counters) {
		const last = this.#last;
		this.#last = { time, counters };
		// Counters that went back are those of a device made anew.
		if (!last || counters.new_flows < last.counters.new_flows || counters.bytes.from < last.counters.bytes.from || counters.bytes.to < last.counters.bytes.to) {
			return;
		}
		const seconds = (time - last.time) / 1000;
		const rate = (now, before) => Math.max(0, now - before) / seconds;
		this.points.push({
			time,
			gap: time - last.time > 3 * interval,
			flows: counters.flows,
			newFlows: rate(counters.new_flows, last.counters.new_flows),
			packetsFrom: rate(counters.packets.from, last.counters.packets.from),
			packetsTo: rate(counters.packets.to, last.counters.packets.to),
			bitsFrom: 8 * rate(counters.bytes.from, last.counters.bytes.from),
			bitsTo: 8 * rate(counters.bytes.to, last.counters.bytes.to),
		});
		while (this.points[0].time < time - span - interval) {
			this.points.shift();
		}
	}

	get latest() {
		return this.points.at(-1);
	}
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
		for (const kind of ["bridges", "segments"]) {
			for (const [name, device] of Object.entries(status[kind])) {
				this.of(kind, name).add(time, device);
			}
		}
	}
}
