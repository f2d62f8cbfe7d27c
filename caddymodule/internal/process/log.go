package process

import (
	"context"
	"log/slog"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/exp/zapslog"
)

// logHandler passes each record to the logger "vnic" of the configuration that Caddy runs
// at that time, because the data plane outlives the logger of a configuration.
type logHandler struct {
	derive func(slog.Handler) slog.Handler // the With calls so far; nil if none
}

func (h logHandler) now() slog.Handler {
	const noStacktrace = slog.Level(127)
	var handler slog.Handler = zapslog.NewHandler(caddy.Log().Core(), zapslog.WithName("vnic"), zapslog.AddStacktraceAt(noStacktrace))
	if h.derive != nil {
		handler = h.derive(handler)
	}
	return handler
}

func (h logHandler) with(next func(slog.Handler) slog.Handler) slog.Handler {
	if h.derive == nil {
		return logHandler{next}
	}
	return logHandler{func(base slog.Handler) slog.Handler { return next(h.derive(base)) }}
}

func (h logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.now().Enabled(ctx, level)
}

func (h logHandler) Handle(ctx context.Context, record slog.Record) error {
	return h.now().Handle(ctx, record)
}

func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(base slog.Handler) slog.Handler { return base.WithAttrs(attrs) })
}

func (h logHandler) WithGroup(name string) slog.Handler {
	return h.with(func(base slog.Handler) slog.Handler { return base.WithGroup(name) })
}
