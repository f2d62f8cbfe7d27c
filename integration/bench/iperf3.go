package main

import (
	"encoding/json"
	"fmt"
)

// parseIperf3 returns the rate in Gbit/s at which the receiver got data, from the output of
// `iperf3 --json`.
func parseIperf3(output []byte) (float64, error) {
	var report struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(output, &report); err != nil {
		return 0, fmt.Errorf("iperf3's report: %w: %s", err, output)
	}
	if report.Error != "" {
		return 0, fmt.Errorf("iperf3: %s", report.Error)
	}
	if report.End.Received.BitsPerSecond <= 0 {
		return 0, fmt.Errorf("iperf3 received nothing: %s", output)
	}
	return report.End.Received.BitsPerSecond / 1e9, nil
}
