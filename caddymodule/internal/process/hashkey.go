package process

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

// HashKeyName is where the secret of the data plane's hashes is in Caddy's storage. Servers
// that share a storage share the secret, and decide alike.
const HashKeyName = "vnic/hash_key"

// hashKeyPatience is how long a start waits for a storage.
const hashKeyPatience = 10 * time.Second

// Storage is what is needed of a certmagic.Storage.
type Storage interface {
	Lock(ctx context.Context, name string) error
	Unlock(ctx context.Context, name string) error
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
}

// HashSecret is the secret of the data plane's hashes, which is made once and then kept in
// the storage of the newest configuration.
type HashSecret struct{ storage atomic.Pointer[Storage] }

// KeepIn says where the secret is kept.
func (s *HashSecret) KeepIn(storage Storage) { s.storage.Store(&storage) }

// get returns what the storage has, or makes it.
func (s *HashSecret) get() (secret [16]byte, err error) {
	storage := *s.storage.Load()
	ctx, cancel := context.WithTimeout(context.Background(), hashKeyPatience)
	defer cancel()
	text, err := storage.Load(ctx, HashKeyName)
	if errors.Is(err, fs.ErrNotExist) {
		text, err = makeHashKey(ctx, storage)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage: %w", HashKeyName, err)
	}
	text = bytes.TrimSpace(text)
	if len(text) != hex.EncodedLen(len(secret)) {
		err = hex.ErrLength
	} else {
		_, err = hex.Decode(secret[:], text)
	}
	if err != nil {
		return secret, fmt.Errorf("%s in Caddy's storage is not 32 hexadecimal digits (%w): delete it, and a new one is made", HashKeyName, err)
	}
	return secret, nil
}

// makeHashKey makes the secret, unless another server that shares the storage just has.
func makeHashKey(ctx context.Context, storage Storage) (text []byte, err error) {
	if err := storage.Lock(ctx, HashKeyName); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, storage.Unlock(context.WithoutCancel(ctx), HashKeyName)) }()
	if text, err = storage.Load(ctx, HashKeyName); !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // it never fails
	text = []byte(hex.EncodeToString(secret[:]))
	return text, storage.Store(ctx, HashKeyName, text)
}
