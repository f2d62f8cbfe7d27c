package names

import (
	"bytes"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Limits that a client observes before it knows the server's settings, in bytes (RFC 9113 §6.5.2).
const (
	headerTableSize = 4096
	maxFrameSize    = 16 << 10
)

// ofHTTP2 reads the :authority, or else the host field, of the first request.
func ofHTTP2(first []byte) (name string, reading Reading) {
	frames, whole := bytes.CutPrefix(first, []byte(http2.ClientPreface))
	if !whole {
		return "", More
	}
	framer := http2.NewFramer(io.Discard, &prefix{frames})
	framer.SetMaxReadFrameSize(maxFrameSize) // the framer allocates a frame before it reads it
	framer.ReadMetaHeaders = hpack.NewDecoder(headerTableSize, nil)
	framer.MaxHeaderListSize = MaxBytes
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "", unlessCut(err)
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			return found(withoutPort(authority(headers)))
		}
	}
}

func authority(headers *http2.MetaHeadersFrame) string {
	if authority := headers.PseudoValue("authority"); authority != "" {
		return authority
	}
	for _, field := range headers.RegularFields() {
		if field.Name == "host" {
			return field.Value
		}
	}
	return ""
}
