package rolesocket

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/caddy-vnic/caddy-vnic/caddymodule/internal/api"
)

// operate carries out an operation without a body. The commands send an empty object.
func (r *Role) operate(w http.ResponseWriter, q request) error {
	if _, err := decode[struct{}](q); err != nil {
		return err
	}
	return r.do(w, q, nil)
}

// operateWith carries out an operation whose body is a T.
func operateWith[T any](r *Role, w http.ResponseWriter, q request) error {
	body, err := decode[T](q)
	if err != nil {
		return err
	}
	return r.do(w, q, body)
}

// do asks the instance to do something.
func (r *Role) do(w http.ResponseWriter, q request, body any) error {
	resp, err := r.ask(q, r.other, q.method, q.path, nil, body)
	if err != nil {
		return err
	}
	resp.Body.Close()
	w.WriteHeader(http.StatusOK)
	return nil
}

// decode reads a body, which is one value in JSON or missing.
func decode[T any](q request) (body T, err error) {
	from := json.NewDecoder(bytes.NewReader(q.body))
	from.DisallowUnknownFields()
	if err = from.Decode(&body); err == io.EOF {
		return body, nil
	}
	if err == nil && from.More() {
		return body, refuse(http.StatusBadRequest, "reading the body: want one value in JSON")
	}
	if err != nil {
		return body, refuse(http.StatusBadRequest, "reading the body: %v", err)
	}
	return body, nil
}

// bans lists the bans of the segment.
func (r *Role) bans(w http.ResponseWriter, q request) error {
	if err := r.wantOwn(q, "segment", r.segment); err != nil {
		return err
	}
	query := q.query
	query.Set("segment", r.segment)
	var list api.Bans
	if err := r.read(q, api.BansPath, query, &list); err != nil {
		return err
	}
	return answer(w, list)
}

// ban adds or ends bans of the segment.
func (r *Role) ban(w http.ResponseWriter, q request) error {
	body, err := decode[api.BanRequest](q)
	if err != nil {
		return err
	}
	if body.Bridge != "" || body.Segment != "" && body.Segment != r.segment {
		return refuse(http.StatusForbidden, "refused: this socket bans clients from segment %s alone: name no bridge and no other segment", r.segment)
	}
	body.Segment = r.segment
	return r.do(w, q, body)
}

// capture passes on a capture of the segment. There is one at a time.
func (r *Role) capture(w http.ResponseWriter, q request) error {
	if err := r.wantOwn(q, api.Captured, r.segment, "segment/"+r.segment); err != nil {
		return err
	}
	select {
	case r.captures <- struct{}{}:
		defer func() { <-r.captures }()
	default:
		return refuse(http.StatusTooManyRequests, "segment %s is being captured by this socket already: end that first", r.segment)
	}
	query := q.query
	query.Set(api.Captured, "segment/"+r.segment)
	query.Set("peers", "false")
	r.log.Info("captures the segment", "segment", r.segment, "path", q.path, "query", query.Encode(), "by", callerOf(q))
	resp, err := r.ask(q, r.other, http.MethodGet, api.CapturePath, query, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, name := range []string{"Content-Type", "Content-Disposition"} {
		w.Header().Set(name, resp.Header.Get(name))
	}
	passOn(w, resp.Body)
	return nil
}

// stall is how long a client may read nothing of a capture.
const stall = time.Minute

// passOn sends the parts of a stream as they come.
func passOn(w http.ResponseWriter, from io.Reader) {
	stream := http.NewResponseController(w)
	_ = stream.SetReadDeadline(time.Time{}) // the server's is for short requests
	part := make([]byte, 64<<10)
	for {
		n, err := from.Read(part)
		if n > 0 {
			_ = stream.SetWriteDeadline(time.Now().Add(stall))
			if _, err := w.Write(part[:n]); err != nil || stream.Flush() != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
