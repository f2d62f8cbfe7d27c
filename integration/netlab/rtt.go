package netlab

import (
	"fmt"
	"math"
	"time"
)

// RTT sums up round-trip times as ping does.
type RTT struct {
	Min, Avg, Max time.Duration
	Mdev          time.Duration // the standard deviation of the whole sample, which ping calls mdev
}

// SumUpRTT computes the statistics of round-trip times. Of none they are zero.
func SumUpRTT(times []time.Duration) RTT {
	if len(times) == 0 {
		return RTT{}
	}
	stats := RTT{Min: times[0], Max: times[0]}
	var sum float64
	for _, t := range times {
		stats.Min, stats.Max = min(stats.Min, t), max(stats.Max, t)
		sum += float64(t)
	}
	mean := sum / float64(len(times))
	var squares float64
	for _, t := range times {
		squares += (float64(t) - mean) * (float64(t) - mean)
	}
	stats.Avg = time.Duration(mean)
	stats.Mdev = time.Duration(math.Sqrt(squares / float64(len(times))))
	return stats
}

// String formats the statistics as ping's last line does, in milliseconds:
// min/avg/max/mdev.
func (s RTT) String() string {
	return fmt.Sprintf("%.3f/%.3f/%.3f/%.3f", ms(s.Min), ms(s.Avg), ms(s.Max), ms(s.Mdev))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
