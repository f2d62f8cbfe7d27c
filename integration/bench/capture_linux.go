package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// captureTurns is how often a probe runs four times: without a capture, twice with one, and
// without. Several turns are needed because one run differs from the next by more than a
// capture may cost.
const captureTurns = 2

// captured makes a probe that runs another one without a capture, and as often during a
// capture of all frames of the bridge. The runs alternate, so that a drift affects both
// alike. The figures are means, named uncaptured_<metric> and captured_<metric>.
func captured(run func(context.Context, *site, time.Duration) (Figures, error), metric string) func(context.Context, *site, time.Duration) (Figures, error) {
	return func(ctx context.Context, s *site, d time.Duration) (Figures, error) {
		means := make(Figures)
		measure := func(prefix string) error {
			figures, err := run(ctx, s, d)
			means[prefix+metric] += figures[metric] / (2 * captureTurns)
			return err
		}
		for range captureTurns {
			if err := measure("uncaptured_"); err != nil {
				return nil, err
			}
			end, err := s.capture(ctx)
			if err != nil {
				return nil, err
			}
			for range 2 {
				err = errors.Join(err, measure("captured_"))
			}
			if err := errors.Join(err, end(), measure("uncaptured_")); err != nil {
				return nil, err
			}
		}
		return means, nil
	}
}

// capture captures the bridge until the caller calls end. end returns an error if the
// capture has ended before.
func (s *site) capture(ctx context.Context) (end func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost:2019/vnic/capture?of=lan", nil)
	if err != nil {
		cancel()
		return nil, err
	}
	client := s.server.HTTPClient()
	client.Timeout = 0
	answer, err := client.Do(request)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.Join(fmt.Errorf("GET /vnic/capture: %s", answer.Status), answer.Body.Close())
	}
	if err != nil {
		cancel()
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, answer.Body)
		if ctx.Err() != nil {
			err = nil
		} else if err == nil {
			err = errors.New("the capture ended before the probe")
		}
		ended <- errors.Join(err, answer.Body.Close())
	}()
	return func() error {
		cancel()
		return <-ended
	}, nil
}

func canCapture(s *site) bool { return s.Ours && !s.aside }
