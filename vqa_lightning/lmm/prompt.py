"""What a pair is asked: the paper's words, in the chat format of its language model."""

SYSTEM = "You are a helpful assistant."

QUESTION = (
    "Now you will receive two videos. The first video: {video}. The second video: {video}. Please watch "
    "these videos carefully, and then answer the following question: Comparing with the first video, how do "
    "you assess the quality of the second video?"
)
"""METHOD section 4."""

ANSWER = "The quality of the second video is"
"""The answer's opening, which the level word ends."""

QWEN_CHAT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
)
