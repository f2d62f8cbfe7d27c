// Numbers for people.

const steps = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];

// scaled is a number with three digits or so, and its prefix.
function scaled(n) {
	for (const [size, prefix] of steps) {
		if (n >= 0.9995 * size) {
			return [round(n / size), prefix];
		}
	}
	return [round(n), ""];
}

const round = (n) => String(n >= 100 ? Math.round(n) : n >= 10 ? Math.round(n * 10) / 10 : Math.round(n * 100) / 100);

function withUnit(n, unit) {
	const [digits, prefix] = scaled(n);
	return prefix + unit === "" ? digits : `${digits} ${prefix}${unit}`;
}

export const bits = (perSecond) => withUnit(perSecond, "bit/s");
export const bytes = (n) => withUnit(n, "B");
export const perSecond = (n) => `${withUnit(n, "")}/s`;
export const count = (n) => n.toLocaleString("en");

export function idle(seconds) {
	return seconds < 1 ? "now" : seconds < 60 ? `${Math.round(seconds)} s ago` : `${Math.round(seconds / 60)} min ago`;
}

// clock is the time of day; of another day, the date too.
export function clock(time) {
	const t = new Date(time);
	const day = t.toDateString() === new Date().toDateString() ? "" : t.toLocaleDateString("en-CA") + " ";
	return day + t.toLocaleTimeString("en-GB");
}
