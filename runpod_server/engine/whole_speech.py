"""One utterance by transformers' own generate(output_audio=True), as its documentation would have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from runpod_server.engine.csm_request import Asked
from runpod_server.engine.request import EndReason
from runpod_server.errors import BadRequest, OutOfMemory
from runpod_server.model.device import is_out_of_memory
from runpod_server.model.prompt import Turn, build_prompt
from runpod_server.model.weights import LoadedCsm
from runpod_server.voices.store import ReferenceVoice

Samples = NDArray[np.float32]

_SILENCE: Samples = np.zeros(0, np.float32)


class WholeSpeech:
    """One loaded model, one utterance at a time."""

    def __init__(self, loaded: LoadedCsm) -> None:
        self._loaded = loaded
        self.frame_samples = loaded.shapes.frame_samples
        self.device: Literal["cuda", "cpu"] = "cuda" if loaded.device.type == "cuda" else "cpu"

    def speak(self, asked: Asked, *, frames: int, stop: Callable[[], bool]) -> tuple[Samples, EndReason]:
        """The whole sound of a request, of at most so many frames, and how it ended.

        `stop` is asked after every frame. Raises BadRequest when the text does not fit, OutOfMemory.
        """
        inputs = self._inputs(asked)
        room = self._loaded.shapes.max_positions - inputs["input_ids"].shape[1]
        if room < 1:
            raise BadRequest(
                "the text and its voice are longer than the model reads: send less", field="text"
            )
        watcher = _Watcher(stop, self._loaded.shapes.eos_code)
        self._set_sampling(asked)
        torch.manual_seed(asked.seed)
        try:
            with torch.inference_mode():
                made = self._loaded.model.generate(
                    **inputs,
                    generation_config=self._generation(asked, max_new_tokens=min(frames, room)),
                    streamer=watcher,
                    output_audio=True,
                )
        except _StoppedByListener:
            return _SILENCE, "cancelled"
        except _NothingSaid:
            return _SILENCE, "eos"
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory("the model ran out of memory on this request: send a shorter text") from error
        audio: Samples = made[0].float().cpu().numpy()
        if watcher.ended_but_for_the_last:  # generate stops there, but leaves that frame in: a blip
            audio = audio[: -self.frame_samples]
        return audio, "eos" if watcher.ended else "max_length"

    def _inputs(self, asked: Asked) -> dict[str, Tensor]:
        turns: list[Turn] = []
        sound: dict[str, Tensor] = {}
        if asked.voice is not None:
            turns.append(self._reference(asked.voice, sound))
        turns.append(Turn(asked.speaker_id, asked.parts[0]))
        prompt = build_prompt(turns, self._loaded.tokenizer, self._loaded.shapes)
        ids = prompt.ids.unsqueeze(0)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **sound}
        return {name: tensor.to(self._loaded.device) for name, tensor in inputs.items()}

    def _reference(self, voice: ReferenceVoice, sound: dict[str, Tensor]) -> Turn:
        """The voice's turn, whose codes only mark places: generate encodes the recording itself."""
        samples = torch.from_numpy(voice.samples())
        sound["input_values"] = samples.view(1, 1, -1)
        sound["input_values_cutoffs"] = torch.tensor([[samples.shape[0]]])
        frames = self._loaded.model.codec_model.get_encoded_length(torch.tensor(samples.shape[0]))
        places = torch.zeros(int(frames), self._loaded.shapes.codebooks, dtype=torch.int64)
        return Turn(voice.prompt_speaker, voice.transcript, places)

    def _set_sampling(self, asked: Asked) -> None:
        """The depth decoder's settings. As `depth_decoder_*` arguments they would stay on for the next."""
        steps = self._loaded.shapes.codebooks - 1
        self._loaded.model.depth_decoder.generation_config = GenerationConfig(  # type: ignore[no-untyped-call, unused-ignore]
            **_sampling(asked), min_new_tokens=steps, max_new_tokens=steps
        )

    def _generation(self, asked: Asked, *, max_new_tokens: int) -> GenerationConfig:
        return GenerationConfig(  # type: ignore[no-untyped-call, unused-ignore]
            **_sampling(asked),
            max_new_tokens=max_new_tokens,
            pad_token_id=self._loaded.model.config.codebook_pad_token_id,
        )


def _sampling(asked: Asked) -> dict[str, Any]:
    if asked.temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": asked.temperature, "top_k": asked.top_k}


class _StoppedByListener(Exception):
    """Not an error: the way out of generate, which takes no stopping criteria for CSM."""


class _NothingSaid(Exception):
    """The first frame was the end; generate would fail on decoding nothing."""


class _Watcher(BaseStreamer):
    """Sees every frame as it is made."""

    def __init__(self, stop: Callable[[], bool], eos_code: int) -> None:
        self._stop, self._eos_code = stop, eos_code
        self._is_prompt = True
        self._frames = 0
        self.ended = self.ended_but_for_the_last = False

    def put(self, value: Tensor) -> None:
        """value: the prompt's ids first, then (1, 32) codes."""
        if self._is_prompt:
            self._is_prompt = False
            return
        if self._stop():
            raise _StoppedByListener
        is_end = (value[0] == self._eos_code).tolist()
        self.ended = all(is_end[:-1])
        self.ended_but_for_the_last = self.ended and not is_end[-1]
        if self.ended and self._frames == 0:
            raise _NothingSaid
        self._frames += 1

    def end(self) -> None:
        """Nothing to finish."""
