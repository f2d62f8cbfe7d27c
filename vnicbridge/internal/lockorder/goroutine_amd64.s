//go:build race

#include "textflag.h"

// func goroutineNumber() uint64
TEXT ·goroutineNumber(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ AX, ret+0(FP)
	RET
