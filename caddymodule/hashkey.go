package caddymodule

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"
)

// hashKeyName is where the secret of the data plane's hashes is in Caddy's storage. Servers
// that share a storage share the secret, and decide alike.
const hashKeyName = "vnic/hash_key"

// hashKeyPatience is how long a start waits for a storage.
const hashKeyPatience = 10 * time.Second

// keyStorage is what is needed of a certmagic.Storage.
type keyStorage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
}

// hashSecret is the secret of the data plane's hashes, which is made once and then kept in
// the storage of the newest configuration.
type hashSecret struct{ storage atomic.Pointer[keyStorage] }

func (s *hashSecret) keepIn(storage keyStorage) { s.storage.Store(&storage) }

// get returns what the storage has, or makes it.
func (s *hashSecret) get() (secret [16]byte, err error) {
	storage := *s.storage.Load()
	ctx, cancel := context.WithTimeout(context.Background(), hashKeyPatience)
	defer cancel()
	text, err := storage.Load(ctx, hashKeyName)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeHashKey(ctx, storage)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage: %w", hashKeyName, err)
	}
	text = bytes.TrimSpace(text)
	if len(text) != hex.EncodedLen(len(secret)) {
		err = hex.ErrLength
	} else {
		_, err = hex.Decode(secret[:], text)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage is not 32 hexadecimal digits (%w): delete it, and a new one is made", hashKeyName, err)
	}
	return secret, nil
}

// makeHashKey makes the secret, unless another server that shares the storage just has.
func makeHashKey(ctx context.Context, storage keyStorage) (text []byte, err error) {
	if err := storage.Lock(ctx, hashKeyName); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storage.Unlock(context.WithoutCancel(ctx), hashKeyName)) }()
	if text, err = storage.Load(ctx, hashKeyName); !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // it never fails
	text = []byte(hex.EncodeToString(secret[:]))
	return text, storage.Store(ctx, hashKeyName, text)
}
