//go:build !purego

#include "textflag.h"
#include "go_asm.h"

// The bytes of a 16-byte copy from so many bytes back, by that distance: what
// lies behind the distance is what lies at its start.
DATA pattern<>+0x00(SB)/8, $0x0706050403020100
DATA pattern<>+0x08(SB)/8, $0x0f0e0d0c0b0a0908
DATA pattern<>+0x10(SB)/8, $0x0000000000000000
DATA pattern<>+0x18(SB)/8, $0x0000000000000000
DATA pattern<>+0x20(SB)/8, $0x0100010001000100
DATA pattern<>+0x28(SB)/8, $0x0100010001000100
DATA pattern<>+0x30(SB)/8, $0x0100020100020100
DATA pattern<>+0x38(SB)/8, $0x0002010002010002
DATA pattern<>+0x40(SB)/8, $0x0302010003020100
DATA pattern<>+0x48(SB)/8, $0x0302010003020100
DATA pattern<>+0x50(SB)/8, $0x0201000403020100
DATA pattern<>+0x58(SB)/8, $0x0004030201000403
DATA pattern<>+0x60(SB)/8, $0x0100050403020100
DATA pattern<>+0x68(SB)/8, $0x0302010005040302
DATA pattern<>+0x70(SB)/8, $0x0006050403020100
DATA pattern<>+0x78(SB)/8, $0x0100060504030201
DATA pattern<>+0x80(SB)/8, $0x0706050403020100
DATA pattern<>+0x88(SB)/8, $0x0706050403020100
DATA pattern<>+0x90(SB)/8, $0x0706050403020100
DATA pattern<>+0x98(SB)/8, $0x0605040302010008
DATA pattern<>+0xa0(SB)/8, $0x0706050403020100
DATA pattern<>+0xa8(SB)/8, $0x0504030201000908
DATA pattern<>+0xb0(SB)/8, $0x0706050403020100
DATA pattern<>+0xb8(SB)/8, $0x04030201000a0908
DATA pattern<>+0xc0(SB)/8, $0x0706050403020100
DATA pattern<>+0xc8(SB)/8, $0x030201000b0a0908
DATA pattern<>+0xd0(SB)/8, $0x0706050403020100
DATA pattern<>+0xd8(SB)/8, $0x0201000c0b0a0908
DATA pattern<>+0xe0(SB)/8, $0x0706050403020100
DATA pattern<>+0xe8(SB)/8, $0x01000d0c0b0a0908
DATA pattern<>+0xf0(SB)/8, $0x0706050403020100
DATA pattern<>+0xf8(SB)/8, $0x000e0d0c0b0a0908
GLOBL pattern<>(SB), RODATA|NOPTR, $256

// The largest multiple of a distance that is no more than 16.
DATA steps<>+0x00(SB)/8, $0x0e0c0f100f101010
DATA steps<>+0x08(SB)/8, $0x0f0e0d0c0b0a0910
GLOBL steps<>(SB), RODATA|NOPTR, $16

// How the recent distances are put in order by rank, 1 to 3.
DATA order<>+0x00(SB)/8, $0x0706050403020100
DATA order<>+0x08(SB)/8, $0x0f0e0d0c0b0a0908
DATA order<>+0x10(SB)/8, $0x0302010007060504
DATA order<>+0x18(SB)/8, $0x0f0e0d0c0b0a0908
DATA order<>+0x20(SB)/8, $0x030201000b0a0908
DATA order<>+0x28(SB)/8, $0x0f0e0d0c07060504
GLOBL order<>(SB), RODATA|NOPTR, $48

// BITS makes out the extra bits of state and its base. R11 counts, in its low
// six bits, those of R12 that were not read.
#define BITS(state, out) \
	SUBQ  state, R11;      \
	SHRXQ R11, R12, out;   \
	BZHIQ state, out, out; \
	RORXQ $32, state, CX;  \
	ADDL  CX, out

// NEXT makes state the next one.
#define NEXT(state, table) \
	RORXL $8, state, CX; \
	SUBQ  CX, R11;       \
	SHRXQ R11, R12, SI;  \
	BZHIQ CX, SI, SI;    \
	SHRL  $16, state;    \
	ADDQ  DI, state;     \
	MOVQ  (loop_tables+table)(state)(SI*8), state

// func sequencesBMI2(l *loop, dst, src, lit *byte) bool
//
// DI l, R8 next byte of dst, R9 next literal, R10 the eight bytes of src that
// are read from, R11 bits of them that are left, X2 the recent distances; AX,
// BX, DX the states of literal length, match length, offset.
TEXT ·sequencesBMI2(SB), NOSPLIT, $48-33
	MOVQ l+0(FP), DI
	MOVQ dst+8(FP), R8
	MOVQ src+16(FP), R10
	MOVQ lit+24(FP), R9

	// base, last byte that a sequence may end at, first that src is read at
	MOVQ    loop_base(DI), CX
	ADDQ    R8, CX
	MOVQ    CX, base-32(SP)
	MOVQ    loop_outEnd(DI), CX
	MOVQ    loop_wild(DI), SI
	SUBQ    $32, SI
	CMPQ    SI, CX
	CMOVQLT SI, CX
	ADDQ    R8, CX
	MOVQ    CX, outEnd-24(SP)
	MOVQ    R10, first-16(SP)
	MOVQ    loop_litEnd(DI), CX
	ADDQ    R9, CX
	MOVQ    CX, litEnd-8(SP)
	ADDQ    loop_out(DI), R8
	ADDQ    loop_lit(DI), R9

	// extra bits that there is room for beside those of the states
	MOVQ $(56+3), CX
	SUBQ loop_logs+0(DI), CX
	SUBQ loop_logs+8(DI), CX
	SUBQ loop_logs+16(DI), CX
	MOVQ CX, extra-48(SP)

	// all but the last
	MOVQ loop_sequences(DI), CX
	DECQ CX
	MOVQ CX, count-40(SP)

	MOVQ loop_left(DI), R11
	MOVQ R11, CX
	SHRQ $3, CX
	LEAQ -7(R10)(CX*1), R10
	ORL  $56, R11

	MOVQ  loop_literalNow(DI), AX
	MOVQ  loop_matchNow(DI), BX
	MOVQ  loop_offsetNow(DI), DX
	MOVOU loop_recent(DI), X2

next:
	// R12 at least 56 bits
	MOVL  $56, SI
	ANDNL SI, R11, CX
	SHRL  $3, CX
	SUBQ  CX, R10
	CMPQ  R10, first-16(SP)
	JB    short
	LEAL  (AX)(BX*1), SI
	ADDL  DX, SI
	CMPB  SI, extra-48(SP)
	JHI   short
	MOVQ  (R10), R12
	ORQ   $56, R11

	// R13 offset, R14 match length, R15 literal length
	BITS(DX, R13)
	BITS(BX, R14)
	BITS(AX, R15)
	NEXT(AX, tables_literal)
	NEXT(BX, tables_match)
	NEXT(DX, tables_offset)

	// R13 distance
	SUBQ   $3, R13
	JLE    recent
	PSLLO  $4, X2
	PINSRD $0, R13, X2

distance:
	// CX where the match goes, R12 where it comes from, SI and BP the ends
	LEAQ (R8)(R15*1), CX
	LEAQ (CX)(R14*1), SI
	CMPQ SI, outEnd-24(SP)
	JHI  odd
	LEAQ (R9)(R15*1), BP
	CMPQ BP, litEnd-8(SP)
	JHI  odd
	MOVQ CX, R12
	SUBQ R13, R12
	JCS  odd
	CMPQ R12, base-32(SP)
	JB   odd

	MOVOU (R9), X0
	MOVOU X0, (R8)
	MOVQ  SI, R8
	CMPQ  R15, $16
	JHI   literals
	MOVQ  BP, R9
	CMPQ  R13, $16
	JB    near

match:
	MOVOU (R12), X0
	MOVOU X0, (CX)
	MOVOU 16(R12), X1
	MOVOU X1, 16(CX)
	CMPQ  R14, $32
	JHI   far

tail:
	DECQ count-40(SP)
	JNZ  next

stop:
	MOVB $0, ret+32(FP)
	MOVQ count-40(SP), CX
	INCQ CX

done:
	MOVQ  CX, loop_sequences(DI)
	MOVQ  AX, loop_literalNow(DI)
	MOVQ  BX, loop_matchNow(DI)
	MOVQ  DX, loop_offsetNow(DI)
	MOVOU X2, loop_recent(DI)
	SUBQ  first-16(SP), R10
	SHLQ  $3, R10
	ANDL  $63, R11
	ADDQ  R11, R10
	MOVQ  R10, loop_left(DI)
	SUBQ  dst+8(FP), R8
	MOVQ  R8, loop_out(DI)
	SUBQ  lit+24(FP), R9
	MOVQ  R9, loop_lit(DI)
	RET

short:
	ADDQ CX, R10
	JMP  stop

odd:
	MOVQ R15, loop_literalLen(DI)
	MOVQ R14, loop_matchLen(DI)
	MOVB $1, ret+32(FP)
	MOVQ count-40(SP), CX
	JMP  done

recent:
	// rank 1 to 3, or 4: one less than the latest
	ADDQ   $3, R13
	CMPQ   R15, $1
	ADCQ   $0, R13
	CMPQ   R13, $4
	JEQ    less
	SHLL   $4, R13
	LEAQ   order<>(SB), SI
	MOVOU  -16(SI)(R13*1), X1
	PSHUFB X1, X2
	MOVL   X2, R13
	JMP    distance

less:
	MOVL   X2, R13
	DECL   R13
	PSLLO  $4, X2
	PINSRD $0, R13, X2
	TESTL  R13, R13
	JEQ    odd
	JMP    distance

far:
	MOVQ $32, SI

again32:
	MOVOU (R12)(SI*1), X0
	MOVOU X0, (CX)(SI*1)
	MOVOU 16(R12)(SI*1), X1
	MOVOU X1, 16(CX)(SI*1)
	ADDQ  $32, SI
	CMPQ  SI, R14
	JB    again32
	JMP   tail

literals:
	// from the 17th on, to where the match goes
	MOVQ CX, SI
	SUBQ R15, SI
	SUBQ SI, R9
	ADDQ $16, SI

copy32:
	MOVOU (R9)(SI*1), X0
	MOVOU 16(R9)(SI*1), X1
	MOVOU X0, (SI)
	MOVOU X1, 16(SI)
	ADDQ  $32, SI
	CMPQ  SI, CX
	JB    copy32
	MOVQ  BP, R9
	CMPQ  R13, $16
	JAE   match

near:
	MOVOU   (R12), X0
	LEAQ    steps<>(SB), R12
	MOVBLZX (R12)(R13*1), R12
	SHLL    $4, R13
	LEAQ    pattern<>(SB), SI
	MOVOU   (SI)(R13*1), X1
	PSHUFB  X1, X0

again:
	MOVOU X0, (CX)
	ADDQ  R12, CX
	CMPQ  CX, R8
	JB    again
	JMP   tail
