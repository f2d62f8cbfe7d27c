package leanproxy

import (
	"net"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// unplain names an option by which a block is not plain; "" if there is none. An option
// that it does not know is not plain, because a later Caddy may have more options.
func (h *Handler) unplain(t *reverseproxy.HTTPTransport) string {
	lb, health := h.LoadBalancing, h.HealthChecks
	for _, part := range []struct {
		options any
		plain   string
	}{
		{&h.Handler, "LoadBalancing HealthChecks Upstreams Transport ProxyStatusName StreamTimeout StreamBufferSize StreamCloseDelay"},
		{lb, "Retries TryDuration TryInterval SelectionPolicy"},
		{t, "KeepAlive Compression DialTimeout FallbackDelay Resolver LocalAddress Versions NetworkProxyRaw " +
			"MaxResponseHeaderSize WriteBufferSize ReadBufferSize ExpectContinueTimeout Transport"},
		{t.KeepAlive, "Enabled ProbeInterval MaxIdleConnsPerHost IdleConnTimeout"},
	} {
		if option := setBeside(part.options, part.plain); option != "" {
			return option
		}
	}
	if health != nil && health.Passive != nil {
		if option := setBeside(health.Passive, "FailDuration MaxFails UnhealthyRequestCount UnhealthyStatus"); option != "" {
			return option
		}
	}
	for _, upstream := range h.Upstreams {
		if option := setBeside(upstream, "Host Dial MaxRequests"); option != "" {
			return option
		}
		if address, err := caddy.ParseNetworkAddress(upstream.Dial); err != nil || address.Network != "tcp" || net.ParseIP(address.Host) == nil {
			return "upstreams"
		}
		if inFlight(upstream.Host) == nil {
			return "upstreams"
		}
	}
	switch {
	case t.Transport.Proxy != nil:
		return "network_proxy"
	case !plainPolicy(lb.SelectionPolicy):
		return "selection_policy"
	case t.Compression == nil || *t.Compression:
		return "compression"
	case t.KeepAlive.Enabled != nil && !*t.KeepAlive.Enabled || t.KeepAlive.MaxIdleConnsPerHost < 0 || t.KeepAlive.IdleConnTimeout < 0:
		return "keep_alive"
	case 0 < t.MaxResponseHeaderSize && t.MaxResponseHeaderSize < maxHead:
		return "max_response_header_size"
	case !slices.Contains(t.Versions, "1.1") || slices.Contains(t.Versions, "h2c"):
		return "versions"
	}
	return ""
}

// plainPolicy tells whether a policy ignores the parts of a request that reverse_proxy
// changes before it asks the policy.
func plainPolicy(policy reverseproxy.Selector) bool {
	switch policy.(type) {
	case reverseproxy.RandomSelection, *reverseproxy.RandomSelection,
		*reverseproxy.RandomChoiceSelection,
		*reverseproxy.LeastConnSelection,
		*reverseproxy.RoundRobinSelection,
		*reverseproxy.WeightedRoundRobinSelection,
		*reverseproxy.FirstSelection,
		*reverseproxy.IPHashSelection,
		*reverseproxy.ClientIPHashSelection,
		*reverseproxy.URIHashSelection,
		*reverseproxy.QueryHashSelection:
		return true
	}
	return false
}

// setBeside returns the JSON name of a field that is set although it is not listed; "" if
// there is none. It looks at the exported fields of the struct that options points to.
func setBeside(options any, listed string) string {
	v := reflect.ValueOf(options).Elem()
	names := strings.Fields(listed)
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if field.IsExported() && !v.Field(i).IsZero() && !slices.Contains(names, field.Name) {
			if raw, ok := v.Type().FieldByName(field.Name + "Raw"); ok {
				field = raw // the field with the JSON name; the other one has the loaded module
			}
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}
