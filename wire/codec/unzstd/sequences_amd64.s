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

// func sequencesBMI2(l *loop, dst, src, lit *byte) bool
//
// DI l, R8 next byte of dst, R9 next literal, R10 the eight bytes of src that
// are read from, R11 bits of them that were read; AX, BX, DX the states of
// literal length, match length, offset.
TEXT ·sequencesBMI2(SB), NOSPLIT, $32-33
	MOVQ l+0(FP), DI
	MOVQ dst+8(FP), R8
	MOVQ src+16(FP), R10
	MOVQ lit+24(FP), R9

	// base, last byte that a sequence may end at, first that src is read at
	MOVQ loop_base(DI), CX
	ADDQ R8, CX
	MOVQ CX, base-32(SP)
	MOVQ loop_outEnd(DI), CX
	MOVQ loop_wild(DI), SI
	SUBQ $32, SI
	CMPQ SI, CX
	CMOVQLT SI, CX
	ADDQ R8, CX
	MOVQ CX, outEnd-24(SP)
	MOVQ R10, first-16(SP)
	MOVQ loop_litEnd(DI), CX
	ADDQ R9, CX
	MOVQ CX, litEnd-8(SP)
	ADDQ loop_out(DI), R8
	ADDQ loop_lit(DI), R9

	MOVQ loop_left(DI), R11
	LEAQ 7(R11), CX
	SHRQ $3, CX
	LEAQ -8(R10)(CX*1), R10
	NEGQ R11
	ANDL $7, R11

	MOVQ loop_literalNow(DI), AX
	MOVQ loop_matchNow(DI), BX
	MOVQ loop_offsetNow(DI), DX

next:
	CMPQ loop_sequences(DI), $1
	JLE  stop

	// load
	MOVQ R11, CX
	SHRQ $3, CX
	MOVQ R10, SI
	SUBQ CX, SI
	CMPQ SI, first-16(SP)
	JB   stop
	MOVQ (SI), R12

	// more than 56 bits for all are for the twin
	LEAL (AX)(BX*1), CX
	ADDL DX, CX
	RORXL $8, CX, BP
	ADDL CX, BP
	CMPB BP, $56
	JHI  stop
	MOVQ SI, R10
	ANDL $7, R11
	DECQ loop_sequences(DI)

	// R13 offset, R14 match length, R15 literal length. R11 is, in its low six
	// bits, how far right of the top the bits lie that were not read.
	NEGQ  R11
	SUBQ  DX, R11
	SHRXQ R11, R12, R13
	BZHIQ DX, R13, R13
	RORXQ $32, DX, CX
	ADDL  CX, R13
	SUBQ  BX, R11
	SHRXQ R11, R12, R14
	BZHIQ BX, R14, R14
	RORXQ $32, BX, CX
	ADDL  CX, R14
	SUBQ  AX, R11
	SHRXQ R11, R12, R15
	BZHIQ AX, R15, R15
	RORXQ $32, AX, CX
	ADDL  CX, R15

	// next states
	RORXL $8, AX, CX
	SUBQ  CX, R11
	SHRXQ R11, R12, SI
	BZHIQ CX, SI, SI
	SHRL  $16, AX
	ADDL  SI, AX
	MOVQ  (loop_tables+tables_literal)(DI)(AX*8), AX
	RORXL $8, BX, CX
	SUBQ  CX, R11
	SHRXQ R11, R12, SI
	BZHIQ CX, SI, SI
	SHRL  $16, BX
	ADDL  SI, BX
	MOVQ  (loop_tables+tables_match)(DI)(BX*8), BX
	RORXL $8, DX, CX
	SUBQ  CX, R11
	SHRXQ R11, R12, SI
	BZHIQ CX, SI, SI
	SHRL  $16, DX
	ADDL  SI, DX
	MOVQ  (loop_tables+tables_offset)(DI)(DX*8), DX
	NEGQ  R11
	ANDL  $63, R11

	// R13 becomes the distance. Its rank CX is 1 to 3 for a recent one, but 4
	// for one less than the latest, and more than 3 for a new one.
	MOVQ    R13, CX
	CMPQ    R15, $1
	ADCQ    $0, CX
	MOVQ    loop_recent+0(DI), SI
	LEAQ    -1(SI), BP
	CMPQ    R13, $3
	LEAQ    -3(R13), R13
	CMOVQLE BP, R13
	MOVQ    loop_recent+8(DI), R12
	MOVQ    loop_recent+16(DI), BP
	CMPQ    CX, $3
	CMOVQEQ BP, R13
	CMOVQLT R12, R13
	CMOVQGE R12, BP
	MOVQ    BP, loop_recent+16(DI)
	CMPQ    CX, $2
	CMOVQLT SI, R13
	CMOVQGE SI, R12
	MOVQ    R12, loop_recent+8(DI)
	MOVQ    R13, loop_recent+0(DI)

	// CX where the match goes, BP literals behind it
	LEAQ (R8)(R15*1), CX
	LEAQ (CX)(R14*1), SI
	CMPQ SI, outEnd-24(SP)
	JHI  odd
	LEAQ (R9)(R15*1), BP
	CMPQ BP, litEnd-8(SP)
	JHI  odd
	MOVQ CX, R12
	SUBQ base-32(SP), R12
	LEAQ -1(R13), SI
	CMPQ SI, R12
	JAE  odd

	MOVOU (R9), X0
	MOVOU X0, (R8)
	CMPQ  R15, $16
	JHI   literals

match:
	MOVQ  BP, R9
	MOVQ  CX, R12
	SUBQ  R13, R12
	LEAQ  (CX)(R14*1), R8
	CMPQ  R13, $16
	JB    near
	MOVOU (R12), X0
	MOVOU X0, (CX)
	MOVOU 16(R12), X1
	MOVOU X1, 16(CX)
	CMPQ  R14, $32
	JLS   next

	MOVQ $32, SI

far:
	MOVOU (R12)(SI*1), X0
	MOVOU X0, (CX)(SI*1)
	MOVOU 16(R12)(SI*1), X1
	MOVOU X1, 16(CX)(SI*1)
	ADDQ  $32, SI
	CMPQ  SI, R14
	JB    far
	JMP   next

literals:
	MOVQ $16, SI

more:
	MOVOU (R9)(SI*1), X0
	MOVOU 16(R9)(SI*1), X1
	MOVOU X0, (R8)(SI*1)
	MOVOU X1, 16(R8)(SI*1)
	ADDQ  $32, SI
	CMPQ  SI, R15
	JB    more
	JMP   match

near:
	MOVOU   (R12), X0
	LEAQ    steps<>(SB), R12
	MOVBLZX (R12)(R13*1), R12
	SHLQ    $4, R13
	LEAQ    pattern<>(SB), SI
	MOVOU   (SI)(R13*1), X1
	PSHUFB  X1, X0

again:
	MOVOU X0, (CX)
	ADDQ  R12, CX
	CMPQ  CX, R8
	JB    again
	JMP   next

odd:
	MOVQ R15, loop_literalLen(DI)
	MOVQ R14, loop_matchLen(DI)
	MOVB $1, ret+32(FP)
	JMP  done

stop:
	MOVB $0, ret+32(FP)

done:
	MOVQ AX, loop_literalNow(DI)
	MOVQ BX, loop_matchNow(DI)
	MOVQ DX, loop_offsetNow(DI)
	SUBQ first-16(SP), R10
	ADDQ $8, R10
	SHLQ $3, R10
	SUBQ R11, R10
	MOVQ R10, loop_left(DI)
	SUBQ dst+8(FP), R8
	MOVQ R8, loop_out(DI)
	SUBQ lit+24(FP), R9
	MOVQ R9, loop_lit(DI)
	RET
