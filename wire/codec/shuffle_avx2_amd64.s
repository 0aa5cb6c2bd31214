//go:build !purego

#include "textflag.h"

// Sixteen elements of 2^k bytes are 16·2^k bytes, in address order e e e e b…b:
// four bits of element, k of byte. Interleaving the first half of a run of
// vectors with its second half, byte by byte, rotates the address left by one
// bit. Four rounds bring the byte to the front, which is a shuffle; k rounds
// undo it. A 256 bit vector interleaves each half by itself: its low
// halves do elements 0 to 15 and its high halves 16 to 31.

// ZIP interleaves a and b: low bytes go to t, high bytes to b, and a is free.
#define ZIP(a, b, t) \
	VPUNPCKLBW b, a, t; \
	VPUNPCKHBW b, a, b

// A round leaves its vectors in the order of the comment; the last is free.
#define ROUND2(a, b, t) ZIP(a, b, t) // t b a
#define ROUND4(a, b, c, d, t) ZIP(a, c, t); ZIP(b, d, a) // t c a d b
#define ROUND8(a, b, c, d, e, f, g, h, t) ZIP(a, e, t); ZIP(b, f, a); ZIP(c, g, b); ZIP(d, h, c) // t e a f b g c h d

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

#define LOAD(low, high, x, y) \
	VMOVDQU low, x; \
	VINSERTI128 $1, high, y, y

#define STORE(y, x, low, high) \
	VMOVDQU x, low; \
	VEXTRACTI128 $1, y, high

// Elements of 16 bytes: after three rounds a vector holds 8 + 8 bytes of two
// neighbouring planes in each half.
#define STOREPLANES(y, x, even, odd) \
	VPERMQ $0xd8, y, y; \
	STORE(y, x, even, odd)

#define LOADPLANES(even, odd, x, y) \
	LOAD(even, odd, x, y); \
	VPERMQ $0xd8, y, y

TEXT ·shuffle2AVX2(SB), NOSPLIT, $0-32
	ARGS
loop:
	LOAD((SI), 32(SI), X0, Y0)
	LOAD(16(SI), 48(SI), X1, Y1)
	ROUND2(Y0, Y1, Y2)
	ROUND2(Y2, Y1, Y0)
	ROUND2(Y0, Y1, Y2)
	ROUND2(Y2, Y1, Y0)
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, (DI)(R8*1)
	ADDQ $64, SI
	ADDQ $32, DI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·shuffle4AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	LOAD((SI), 64(SI), X0, Y0)
	LOAD(16(SI), 80(SI), X1, Y1)
	LOAD(32(SI), 96(SI), X2, Y2)
	LOAD(48(SI), 112(SI), X3, Y3)
	ROUND4(Y0, Y1, Y2, Y3, Y4)
	ROUND4(Y4, Y2, Y0, Y3, Y1)
	ROUND4(Y1, Y0, Y4, Y3, Y2)
	ROUND4(Y2, Y4, Y1, Y3, Y0)
	VMOVDQU Y0, (DI)
	VMOVDQU Y1, (DI)(R8*1)
	VMOVDQU Y2, (DI)(R8*2)
	VMOVDQU Y3, (DI)(R9*1)
	ADDQ $128, SI
	ADDQ $32, DI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·shuffle8AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	LOAD((SI), 128(SI), X0, Y0)
	LOAD(16(SI), 144(SI), X1, Y1)
	LOAD(32(SI), 160(SI), X2, Y2)
	LOAD(48(SI), 176(SI), X3, Y3)
	LOAD(64(SI), 192(SI), X4, Y4)
	LOAD(80(SI), 208(SI), X5, Y5)
	LOAD(96(SI), 224(SI), X6, Y6)
	LOAD(112(SI), 240(SI), X7, Y7)
	ROUND8(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8)
	ROUND8(Y8, Y4, Y0, Y5, Y1, Y6, Y2, Y7, Y3)
	ROUND8(Y3, Y1, Y8, Y6, Y4, Y2, Y0, Y7, Y5)
	ROUND8(Y5, Y4, Y3, Y2, Y1, Y0, Y8, Y7, Y6)
	VMOVDQU Y6, (DI)
	VMOVDQU Y1, (DI)(R8*1)
	VMOVDQU Y5, (DI)(R8*2)
	VMOVDQU Y0, (DI)(R9*1)
	VMOVDQU Y4, (DI)(R8*4)
	VMOVDQU Y8, (DI)(R10*1)
	VMOVDQU Y3, (DI)(R9*2)
	VMOVDQU Y7, (DI)(R11*1)
	ADDQ $256, SI
	ADDQ $32, DI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·shuffle16AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
	LEAQ (DI)(R8*8), R12
loop:
	LOAD((SI), 128(SI), X0, Y0)
	LOAD(16(SI), 144(SI), X1, Y1)
	LOAD(32(SI), 160(SI), X2, Y2)
	LOAD(48(SI), 176(SI), X3, Y3)
	LOAD(64(SI), 192(SI), X4, Y4)
	LOAD(80(SI), 208(SI), X5, Y5)
	LOAD(96(SI), 224(SI), X6, Y6)
	LOAD(112(SI), 240(SI), X7, Y7)
	ROUND8(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8)
	ROUND8(Y8, Y4, Y0, Y5, Y1, Y6, Y2, Y7, Y3)
	ROUND8(Y3, Y1, Y8, Y6, Y4, Y2, Y0, Y7, Y5)
	STOREPLANES(Y5, X5, (DI), (DI)(R8*1))
	STOREPLANES(Y4, X4, (DI)(R8*2), (DI)(R9*1))
	STOREPLANES(Y3, X3, (DI)(R8*4), (DI)(R10*1))
	STOREPLANES(Y2, X2, (DI)(R9*2), (DI)(R11*1))
	STOREPLANES(Y1, X1, (R12), (R12)(R8*1))
	STOREPLANES(Y0, X0, (R12)(R8*2), (R12)(R9*1))
	STOREPLANES(Y8, X8, (R12)(R8*4), (R12)(R10*1))
	STOREPLANES(Y7, X7, (R12)(R9*2), (R12)(R11*1))
	ADDQ $256, SI
	ADDQ $16, DI
	ADDQ $16, R12
	SUBQ $16, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·unshuffle2AVX2(SB), NOSPLIT, $0-32
	ARGS
loop:
	VMOVDQU (SI), Y0
	VMOVDQU (SI)(R8*1), Y1
	ROUND2(Y0, Y1, Y2)
	STORE(Y2, X2, (DI), 32(DI))
	STORE(Y1, X1, 16(DI), 48(DI))
	ADDQ $64, DI
	ADDQ $32, SI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·unshuffle4AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	VMOVDQU (SI), Y0
	VMOVDQU (SI)(R8*1), Y1
	VMOVDQU (SI)(R8*2), Y2
	VMOVDQU (SI)(R9*1), Y3
	ROUND4(Y0, Y1, Y2, Y3, Y4)
	ROUND4(Y4, Y2, Y0, Y3, Y1)
	STORE(Y1, X1, (DI), 64(DI))
	STORE(Y0, X0, 16(DI), 80(DI))
	STORE(Y4, X4, 32(DI), 96(DI))
	STORE(Y3, X3, 48(DI), 112(DI))
	ADDQ $128, DI
	ADDQ $32, SI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·unshuffle8AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
loop:
	VMOVDQU (SI), Y0
	VMOVDQU (SI)(R8*1), Y1
	VMOVDQU (SI)(R8*2), Y2
	VMOVDQU (SI)(R9*1), Y3
	VMOVDQU (SI)(R8*4), Y4
	VMOVDQU (SI)(R10*1), Y5
	VMOVDQU (SI)(R9*2), Y6
	VMOVDQU (SI)(R11*1), Y7
	ROUND8(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8)
	ROUND8(Y8, Y4, Y0, Y5, Y1, Y6, Y2, Y7, Y3)
	ROUND8(Y3, Y1, Y8, Y6, Y4, Y2, Y0, Y7, Y5)
	STORE(Y5, X5, (DI), 128(DI))
	STORE(Y4, X4, 16(DI), 144(DI))
	STORE(Y3, X3, 32(DI), 160(DI))
	STORE(Y2, X2, 48(DI), 176(DI))
	STORE(Y1, X1, 64(DI), 192(DI))
	STORE(Y0, X0, 80(DI), 208(DI))
	STORE(Y8, X8, 96(DI), 224(DI))
	STORE(Y7, X7, 112(DI), 240(DI))
	ADDQ $256, DI
	ADDQ $32, SI
	SUBQ $32, CX
	JNZ  loop
	VZEROUPPER
	RET

TEXT ·unshuffle16AVX2(SB), NOSPLIT, $0-32
	ARGS
	PLANES
	LEAQ (SI)(R8*8), R13
loop:
	LOADPLANES((SI), (SI)(R8*1), X0, Y0)
	LOADPLANES((SI)(R8*2), (SI)(R9*1), X1, Y1)
	LOADPLANES((SI)(R8*4), (SI)(R10*1), X2, Y2)
	LOADPLANES((SI)(R9*2), (SI)(R11*1), X3, Y3)
	LOADPLANES((R13), (R13)(R8*1), X4, Y4)
	LOADPLANES((R13)(R8*2), (R13)(R9*1), X5, Y5)
	LOADPLANES((R13)(R8*4), (R13)(R10*1), X6, Y6)
	LOADPLANES((R13)(R9*2), (R13)(R11*1), X7, Y7)
	ROUND8(Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8)
	ROUND8(Y8, Y4, Y0, Y5, Y1, Y6, Y2, Y7, Y3)
	ROUND8(Y3, Y1, Y8, Y6, Y4, Y2, Y0, Y7, Y5)
	ROUND8(Y5, Y4, Y3, Y2, Y1, Y0, Y8, Y7, Y6)
	STORE(Y6, X6, (DI), 128(DI))
	STORE(Y1, X1, 16(DI), 144(DI))
	STORE(Y5, X5, 32(DI), 160(DI))
	STORE(Y0, X0, 48(DI), 176(DI))
	STORE(Y4, X4, 64(DI), 192(DI))
	STORE(Y8, X8, 80(DI), 208(DI))
	STORE(Y3, X3, 96(DI), 224(DI))
	STORE(Y7, X7, 112(DI), 240(DI))
	ADDQ $256, DI
	ADDQ $16, SI
	ADDQ $16, R13
	SUBQ $16, CX
	JNZ  loop
	VZEROUPPER
	RET

// One bit of 32 bytes goes to the front of each byte and from there into a mask.
#define ROWBITS(row) \
	VPMOVMSKB Y0, AX; \
	VPMOVMSKB Y1, BX; \
	SHLQ $32, BX; \
	ORQ BX, AX; \
	MOVQ AX, row; \
	VPADDB Y0, Y0, Y0; \
	VPADDB Y1, Y1, Y1

TEXT ·planeToRowsAVX2(SB), NOSPLIT, $0-32
	MOVQ rows+0(FP), DI
	MOVQ plane+8(FP), SI
	MOVQ count+16(FP), CX
	MOVQ n+24(FP), R8
	PLANES
loop:
	VMOVDQU (SI), Y0
	VMOVDQU 32(SI), Y1
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
	VZEROUPPER
	RET

// SWAP is one step of the transposition of the 8×8 bits in each 64.
#define SWAP(y, t, mask, by) \
	VPSRLQ $by, y, t; \
	VPXOR y, t, t; \
	VPAND mask, t, t; \
	VPXOR t, y, y; \
	VPSLLQ $by, t, t; \
	VPXOR t, y, y

#define TRANSPOSE(y, t) \
	SWAP(y, t, Y13, 7); \
	SWAP(y, t, Y14, 14); \
	SWAP(y, t, Y15, 28)

#define MASK(value, x, y) \
	MOVQ $value, AX; \
	MOVQ AX, x; \
	VPBROADCASTQ x, y

TEXT ·rowsToPlaneAVX2(SB), NOSPLIT, $0-32
	MOVQ plane+0(FP), DI
	MOVQ rows+8(FP), SI
	MOVQ count+16(FP), CX
	MOVQ n+24(FP), R8
	PLANES
	MASK(0x00aa00aa00aa00aa, X13, Y13)
	MASK(0x0000cccc0000cccc, X14, Y14)
	MASK(0x00000000f0f0f0f0, X15, Y15)
loop:
	LOADPLANES((SI), (SI)(R8*1), X0, Y0)
	LOADPLANES((SI)(R8*2), (SI)(R9*1), X1, Y1)
	LOADPLANES((SI)(R8*4), (SI)(R10*1), X2, Y2)
	LOADPLANES((SI)(R9*2), (SI)(R11*1), X3, Y3)
	ROUND4(Y0, Y1, Y2, Y3, Y4)
	ROUND4(Y4, Y2, Y0, Y3, Y1)
	ROUND4(Y1, Y0, Y4, Y3, Y2)
	TRANSPOSE(Y2, Y5)
	TRANSPOSE(Y4, Y6)
	TRANSPOSE(Y1, Y7)
	TRANSPOSE(Y3, Y8)
	STORE(Y2, X2, (DI), 64(DI))
	STORE(Y4, X4, 16(DI), 80(DI))
	STORE(Y1, X1, 32(DI), 96(DI))
	STORE(Y3, X3, 48(DI), 112(DI))
	ADDQ $16, SI
	ADDQ $128, DI
	SUBQ $128, CX
	JNZ  loop
	VZEROUPPER
	RET
