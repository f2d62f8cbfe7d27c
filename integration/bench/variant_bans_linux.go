package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// startWithBans bans 100,000 addresses, none of which the client has.
func startWithBans(ctx context.Context, s *site) error {
	if err := s.startBridge(ctx, "kernel"); err != nil {
		return err
	}
	var bans struct {
		Networks []string `json:"networks"`
	}
	for i := range 100_000 {
		bans.Networks = append(bans.Networks, fmt.Sprintf("203.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	body, err := json.Marshal(bans)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost:2019/vnic/bans", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.server.HTTPClient().Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("POST /vnic/bans: %s: %s", answer.Status, why)
	}
	return nil
}
