// The files of configs/tokenizer-small, so that an installed program needs no folder of its own.
    .section .rodata
    .balign 16
    .globl rot_tokenizer_small_json
    .globl rot_tokenizer_small_json_end
    .globl rot_tokenizer_small_config
    .globl rot_tokenizer_small_config_end
    .hidden rot_tokenizer_small_json
    .hidden rot_tokenizer_small_json_end
    .hidden rot_tokenizer_small_config
    .hidden rot_tokenizer_small_config_end
rot_tokenizer_small_json:
    .incbin "configs/tokenizer-small/tokenizer.json"
rot_tokenizer_small_json_end:
    .byte 0
rot_tokenizer_small_config:
    .incbin "configs/tokenizer-small/tokenizer_config.json"
rot_tokenizer_small_config_end:
    .byte 0
    .section .note.GNU-stack, "", @progbits
