//go:build !purego

#include "textflag.h"

// Sixteen elements of 2^k bytes are 16·2^k bytes, in address order e e e e b…b:
// four bits of element, k of byte. Interleaving the first half of a run of
// vectors with its second half, byte by byte, rotates the address left by one
// bit. Four rounds bring the byte to the front, which is a shuffle; k rounds
// undo it.

// ZIP interleaves a and b: low bytes go to t, high bytes to a, and b is free.
#define ZIP(a, b, t) \
	MOVO a, t; \
	PUNPCKLBW b, t; \
	PUNPCKHBW b, a

// A round leaves its vectors in the order of the comment; the last is free.
#define ROUND2(a, b, t) ZIP(a, b, t) // t a b
#define ROUND4(a, b, c, d, t) ZIP(a, c, t); ZIP(b, d, c) // t a c b d
#define ROUND8(a, b, c, d, e, f, g, h, t) ZIP(a, e, t); ZIP(b, f, e); ZIP(c, g, f); ZIP(d, h, g) // t a e b f c g d h

#define ARGS \
	MOVQ dst+0(FP), DI;   \
	MOVQ src+8(FP), SI;   \
	MOVQ count+16(FP), CX; \
	MOVQ n+24(FP), R8

// PLANES makes the distances of planes 3, 5 and 7 beside that of plane 1, 2 and 4.
#define PLANES \
	LEAQ (R8)(R8*2), R9; \
	LEAQ (R8)(R8*4), R10; \
	LEAQ (R9)(R8*4), R11

TEXT ·shuffle2SSE2(SB), NOSPLIT, $0-32
	ARGS
loop:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	ROUND2(X0, X1, X2)
	ROUND2(X2, X0, X1)
	ROUND2(X1, X2, X0)
	ROUND2(X0, X1, X2)
	MOVOU X2, (DI)
	MOVOU X0, (DI)(R8*1)
	ADDQ $32, SI
	ADDQ $16, DI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·shuffle4SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	ROUND4(X0, X1, X2, X3, X4)
	ROUND4(X4, X0, X2, X1, X3)
	ROUND4(X3, X4, X2, X0, X1)
	ROUND4(X1, X3, X2, X4, X0)
	MOVOU X0, (DI)
	MOVOU X1, (DI)(R8*1)
	MOVOU X2, (DI)(R8*2)
	MOVOU X3, (DI)(R9*1)
	ADDQ $64, SI
	ADDQ $16, DI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·shuffle8SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	ROUND8(X3, X7, X2, X8, X4, X5, X6, X0, X1)
	MOVOU X1, (DI)
	MOVOU X3, (DI)(R8*1)
	MOVOU X4, (DI)(R8*2)
	MOVOU X7, (DI)(R9*1)
	MOVOU X5, (DI)(R8*4)
	MOVOU X2, (DI)(R10*1)
	MOVOU X6, (DI)(R9*2)
	MOVOU X8, (DI)(R11*1)
	ADDQ $128, SI
	ADDQ $16, DI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·shuffle16SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
	LEAQ (DI)(R8*8), R12
loop:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	MOVOU 64(SI), X4
	MOVOU 80(SI), X5
	MOVOU 96(SI), X6
	MOVOU 112(SI), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	MOVLPS X3, (DI)
	MOVHPS X3, (DI)(R8*1)
	MOVLPS X7, (DI)(R8*2)
	MOVHPS X7, (DI)(R9*1)
	MOVLPS X2, (DI)(R8*4)
	MOVHPS X2, (DI)(R10*1)
	MOVLPS X8, (DI)(R9*2)
	MOVHPS X8, (DI)(R11*1)
	MOVLPS X4, (R12)
	MOVHPS X4, (R12)(R8*1)
	MOVLPS X5, (R12)(R8*2)
	MOVHPS X5, (R12)(R9*1)
	MOVLPS X6, (R12)(R8*4)
	MOVHPS X6, (R12)(R10*1)
	MOVLPS X0, (R12)(R9*2)
	MOVHPS X0, (R12)(R11*1)
	MOVOU 128(SI), X0
	MOVOU 144(SI), X1
	MOVOU 160(SI), X2
	MOVOU 176(SI), X3
	MOVOU 192(SI), X4
	MOVOU 208(SI), X5
	MOVOU 224(SI), X6
	MOVOU 240(SI), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	MOVLPS X3, 8(DI)
	MOVHPS X3, 8(DI)(R8*1)
	MOVLPS X7, 8(DI)(R8*2)
	MOVHPS X7, 8(DI)(R9*1)
	MOVLPS X2, 8(DI)(R8*4)
	MOVHPS X2, 8(DI)(R10*1)
	MOVLPS X8, 8(DI)(R9*2)
	MOVHPS X8, 8(DI)(R11*1)
	MOVLPS X4, 8(R12)
	MOVHPS X4, 8(R12)(R8*1)
	MOVLPS X5, 8(R12)(R8*2)
	MOVHPS X5, 8(R12)(R9*1)
	MOVLPS X6, 8(R12)(R8*4)
	MOVHPS X6, 8(R12)(R10*1)
	MOVLPS X0, 8(R12)(R9*2)
	MOVHPS X0, 8(R12)(R11*1)
	ADDQ $256, SI
	ADDQ $16, DI
	ADDQ $16, R12
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·unshuffle2SSE2(SB), NOSPLIT, $0-32
	ARGS
loop:
	MOVOU (SI), X0
	MOVOU (SI)(R8*1), X1
	ROUND2(X0, X1, X2)
	MOVOU X2, (DI)
	MOVOU X0, 16(DI)
	ADDQ $32, DI
	ADDQ $16, SI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·unshuffle4SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	MOVOU (SI), X0
	MOVOU (SI)(R8*1), X1
	MOVOU (SI)(R8*2), X2
	MOVOU (SI)(R9*1), X3
	ROUND4(X0, X1, X2, X3, X4)
	ROUND4(X4, X0, X2, X1, X3)
	MOVOU X3, (DI)
	MOVOU X4, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X0, 48(DI)
	ADDQ $64, DI
	ADDQ $16, SI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·unshuffle8SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	MOVOU (SI), X0
	MOVOU (SI)(R8*1), X1
	MOVOU (SI)(R8*2), X2
	MOVOU (SI)(R9*1), X3
	MOVOU (SI)(R8*4), X4
	MOVOU (SI)(R10*1), X5
	MOVOU (SI)(R9*2), X6
	MOVOU (SI)(R11*1), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	MOVOU X3, (DI)
	MOVOU X7, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X8, 48(DI)
	MOVOU X4, 64(DI)
	MOVOU X5, 80(DI)
	MOVOU X6, 96(DI)
	MOVOU X0, 112(DI)
	ADDQ $128, DI
	ADDQ $16, SI
	SUBQ $16, CX
	JNZ  loop
	RET

TEXT ·unshuffle16SSE2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
	LEAQ (SI)(R8*8), R13
loop:
	MOVQ (SI), X0
	MOVHPS (SI)(R8*1), X0
	MOVQ (SI)(R8*2), X1
	MOVHPS (SI)(R9*1), X1
	MOVQ (SI)(R8*4), X2
	MOVHPS (SI)(R10*1), X2
	MOVQ (SI)(R9*2), X3
	MOVHPS (SI)(R11*1), X3
	MOVQ (R13), X4
	MOVHPS (R13)(R8*1), X4
	MOVQ (R13)(R8*2), X5
	MOVHPS (R13)(R9*1), X5
	MOVQ (R13)(R8*4), X6
	MOVHPS (R13)(R10*1), X6
	MOVQ (R13)(R9*2), X7
	MOVHPS (R13)(R11*1), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	ROUND8(X3, X7, X2, X8, X4, X5, X6, X0, X1)
	MOVOU X1, (DI)
	MOVOU X3, 16(DI)
	MOVOU X4, 32(DI)
	MOVOU X7, 48(DI)
	MOVOU X5, 64(DI)
	MOVOU X2, 80(DI)
	MOVOU X6, 96(DI)
	MOVOU X8, 112(DI)
	MOVQ 8(SI), X0
	MOVHPS 8(SI)(R8*1), X0
	MOVQ 8(SI)(R8*2), X1
	MOVHPS 8(SI)(R9*1), X1
	MOVQ 8(SI)(R8*4), X2
	MOVHPS 8(SI)(R10*1), X2
	MOVQ 8(SI)(R9*2), X3
	MOVHPS 8(SI)(R11*1), X3
	MOVQ 8(R13), X4
	MOVHPS 8(R13)(R8*1), X4
	MOVQ 8(R13)(R8*2), X5
	MOVHPS 8(R13)(R9*1), X5
	MOVQ 8(R13)(R8*4), X6
	MOVHPS 8(R13)(R10*1), X6
	MOVQ 8(R13)(R9*2), X7
	MOVHPS 8(R13)(R11*1), X7
	ROUND8(X0, X1, X2, X3, X4, X5, X6, X7, X8)
	ROUND8(X8, X0, X4, X1, X5, X2, X6, X3, X7)
	ROUND8(X7, X8, X5, X0, X2, X4, X6, X1, X3)
	ROUND8(X3, X7, X2, X8, X4, X5, X6, X0, X1)
	MOVOU X1, 128(DI)
	MOVOU X3, 144(DI)
	MOVOU X4, 160(DI)
	MOVOU X7, 176(DI)
	MOVOU X5, 192(DI)
	MOVOU X2, 208(DI)
	MOVOU X6, 224(DI)
	MOVOU X8, 240(DI)
	ADDQ $256, DI
	ADDQ $16, SI
	ADDQ $16, R13
	SUBQ $16, CX
	JNZ  loop
	RET

// One bit of 64 bytes goes to the front of each byte and from there into a mask.
#define ROWBITS(row) \
	PMOVMSKB X0, AX; \
	PMOVMSKB X1, BX; \
	PMOVMSKB X2, DX; \
	PMOVMSKB X3, R12; \
	SHLQ $16, BX; \
	SHLQ $32, DX; \
	SHLQ $48, R12; \
	ORQ BX, AX; \
	ORQ R12, DX; \
	ORQ DX, AX; \
	MOVQ AX, row; \
	PADDB X0, X0; \
	PADDB X1, X1; \
	PADDB X2, X2; \
	PADDB X3, X3

TEXT ·planeToRowsSSE2(SB), NOSPLIT, $0-32
	MOVQ rows+0(FP), DI
	MOVQ plane+8(FP), SI
	MOVQ count+16(FP), CX
	MOVQ n+24(FP), R8
	PLANES
loop:
	MOVOU (SI), X0
	MOVOU 16(SI), X1
	MOVOU 32(SI), X2
	MOVOU 48(SI), X3
	ROWBITS((DI)(R11*1))
	ROWBITS((DI)(R9*2))
	ROWBITS((DI)(R10*1))
	ROWBITS((DI)(R8*4))
	ROWBITS((DI)(R9*1))
	ROWBITS((DI)(R8*2))
	ROWBITS((DI)(R8*1))
	ROWBITS((DI))
	ADDQ $64, SI
	ADDQ $8, DI
	SUBQ $64, CX
	JNZ  loop
	RET

// SWAP is one step of the transposition of the 8×8 bits in each 64.
#define SWAP(x, t, mask, by) \
	MOVO x, t; \
	PSRLQ $by, t; \
	PXOR x, t; \
	PAND mask, t; \
	PXOR t, x; \
	PSLLQ $by, t; \
	PXOR t, x

#define TRANSPOSE(x, t) \
	SWAP(x, t, X13, 7); \
	SWAP(x, t, X14, 14); \
	SWAP(x, t, X15, 28)

#define MASK(value, x) \
	MOVQ $value, AX; \
	MOVQ AX, x; \
	PUNPCKLQDQ x, x

TEXT ·rowsToPlaneSSE2(SB), NOSPLIT, $0-32
	MOVQ plane+0(FP), DI
	MOVQ rows+8(FP), SI
	MOVQ count+16(FP), CX
	MOVQ n+24(FP), R8
	PLANES
	MASK(0x00aa00aa00aa00aa, X13)
	MASK(0x0000cccc0000cccc, X14)
	MASK(0x00000000f0f0f0f0, X15)
loop:
	MOVQ (SI), X0
	MOVHPS (SI)(R8*1), X0
	MOVQ (SI)(R8*2), X1
	MOVHPS (SI)(R9*1), X1
	MOVQ (SI)(R8*4), X2
	MOVHPS (SI)(R10*1), X2
	MOVQ (SI)(R9*2), X3
	MOVHPS (SI)(R11*1), X3
	ROUND4(X0, X1, X2, X3, X4)
	ROUND4(X4, X0, X2, X1, X3)
	ROUND4(X3, X4, X2, X0, X1)
	TRANSPOSE(X1, X5)
	TRANSPOSE(X3, X6)
	TRANSPOSE(X2, X7)
	TRANSPOSE(X4, X8)
	MOVOU X1, (DI)
	MOVOU X3, 16(DI)
	MOVOU X2, 32(DI)
	MOVOU X4, 48(DI)
	ADDQ $8, SI
	ADDQ $64, DI
	SUBQ $64, CX
	JNZ  loop
	RET
