"""Tiny pipelines of real classes and random weights: the kinds that draw from prompts, and one that draws by labels."""

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLQwenImage,
    AutoencoderTiny,
    DDIMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaSprintPipeline,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
BYTES = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
CHAT = f"{{% for m in messages %}}{TURN}{{% endfor %}}<|im_start|>assistant\n"
WIDTH = 32  # of every text encoder


# -- text encoders, each with its tokenizer


def clip(projects: bool = False):
    words = {word: i for i, word in enumerate(BYTES + [f"{c}</w>" for c in BYTES])}
    words |= {"<|startoftext|>": len(words), "<|endoftext|>": len(words) + 1}
    tokenizer = CLIPTokenizer(vocab=words, merges=[], model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer, (CLIPTextModelWithProjection if projects else CLIPTextModel)(config).eval()


def t5():
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", -2.0),
        ("▁", -2.0),
        *((c, -3.0) for c in "abcdefghijklmnopqrstuvwxyz"),
    ]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return tokenizer, T5EncoderModel(config).eval()


def gemma():
    pieces = [
        "<pad>",
        "<eos>",
        "<bos>",
        "<unk>",
        "<mask>",
        "▁",
        *"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,\n",
    ]
    tokenizer = GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    return tokenizer, Gemma2Model(Gemma2Config(vocab_size=len(tokenizer), pad_token_id=0, **decoder_only())).eval()


def qwen_tokenizer():
    pieces = [*BYTES, "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Qwen2Tokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[])
    tokenizer.chat_template = CHAT
    return tokenizer


def decoder_only(**changes):
    sizes = {"hidden_size": WIDTH, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return sizes | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 1024} | changes


# -- decoders


def kl(channels: int = 4, **changes):
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    sizes = {"block_out_channels": (4, 4), "norm_num_groups": 2, "latent_channels": channels, "sample_size": 16}
    return AutoencoderKL(**(blocks | sizes | changes)).eval()


def dc():
    blocks = {f"{part}_block_types": "ResBlock" for part in ("encoder", "decoder")}
    channels = {f"{part}_block_out_channels": (8, 8) for part in ("encoder", "decoder")}
    layers = {f"{part}_layers_per_block": (1, 1) for part in ("encoder", "decoder")}
    scales = {f"{part}_qkv_multiscales": ((), ()) for part in ("encoder", "decoder")}
    sizes = {"in_channels": 3, "latent_channels": 8, "attention_head_dim": 4, "scaling_factor": 0.41407}
    return AutoencoderDC(**(blocks | channels | layers | scales | sizes)).eval()


def tiny_decoder():
    """Of four latent channels, for gradients."""
    torch.manual_seed(0)
    sizes = {"encoder_block_out_channels": (4, 4), "decoder_block_out_channels": (4, 4)}
    return AutoencoderTiny(**sizes, num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1)).eval()


def qwen_vae():
    statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [1.5, 0.8, 1.1, 2.0]}
    sizes = {"base_dim": 4, "z_dim": 4, "dim_mult": [1, 2, 2, 2], "num_res_blocks": 1}
    return AutoencoderKLQwenImage(temperal_downsample=[False, True, True], **sizes, **statistics).eval()


# -- pipelines


def unet(**changes):
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "sample_size": 8, "norm_num_groups": 4}
    heads = {"cross_attention_dim": WIDTH, "attention_head_dim": 4}
    return UNet2DConditionModel(**(blocks | sizes | heads | changes)).eval()


def stable_diffusion(kind=StableDiffusionPipeline):
    tokenizer, encoder = clip()
    return kind(
        vae=kl(scaling_factor=0.18215),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **LATENT),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl(kind=StableDiffusionXLPipeline):
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip(), clip(projects=True)
    more = {"addition_embed_type": "text_time", "addition_time_embed_dim": 8, "use_linear_projection": True}
    more |= {"projection_class_embeddings_input_dim": 6 * 8 + WIDTH, "transformer_layers_per_block": (1, 1)}
    statistics = {"latents_mean": [-1.6, 2.3, 2.6, -0.4], "latents_std": [8.4, 5.9, 9.5, 5.1]}  # as Playground has
    return kind(
        vae=kl(scaling_factor=0.5, **statistics),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
        unet=unet(cross_attention_dim=2 * WIDTH, **more),
        scheduler=EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **LATENT),
        add_watermarker=False,
    )


def stable_diffusion_3():
    (tokenizer, encoder), (tokenizer_2, encoder_2), (tokenizer_3, encoder_3) = clip(True), clip(True), t5()
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl(16, scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
        text_encoder_3=encoder_3,
        tokenizer_3=tokenizer_3,
    )


def flux():
    (tokenizer, encoder), (tokenizer_2, encoder_2) = clip(), t5()
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae=kl(4, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=encoder,
        tokenizer=tokenizer,
        text_encoder_2=encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=transformer.eval(),
    )


def pixart_sigma():
    tokenizer, encoder = t5()
    transformer = PixArtTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        sample_size=128,
        use_additional_conditions=False,
    )
    scheduler = DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
    vae = kl(scaling_factor=0.13025)
    return PixArtSigmaPipeline(tokenizer, encoder, vae, transformer.eval(), scheduler)


def sana(kind=SanaPipeline, **changes):
    tokenizer, encoder = gemma()
    sizes = {"in_channels": 8, "out_channels": 8, "num_layers": 1, "sample_size": 16, "caption_channels": WIDTH}
    sizes |= {"num_attention_heads": 2, "attention_head_dim": 8, "cross_attention_dim": 16}
    sizes |= {"num_cross_attention_heads": 2, "cross_attention_head_dim": 8}
    flow = {"flow_shift": 3.0, "prediction_type": "flow_prediction", "use_flow_sigmas": True}
    sprint = kind is SanaSprintPipeline
    scheduler = SCMScheduler(sigma_data=0.5) if sprint else DPMSolverMultistepScheduler(**flow)
    transformer = SanaTransformer2DModel(**sizes, guidance_embeds=sprint).eval()
    return kind(tokenizer=tokenizer, text_encoder=encoder, vae=dc(), transformer=transformer, scheduler=scheduler)


def sana_sprint():
    return sana(SanaSprintPipeline)


def z_image():
    tokenizer = qwen_tokenizer()
    encoder = Qwen3Model(Qwen3Config(vocab_size=len(tokenizer), **decoder_only())).eval()
    sizes = {"dim": 32, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": WIDTH}
    transformer = ZImageTransformer2DModel(in_channels=16, axes_dims=[4, 6, 6], axes_lens=[1024, 64, 64], **sizes)
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=kl(16, scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=encoder,
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


def qwen_image():
    tokenizer = qwen_tokenizer()
    text = decoder_only(vocab_size=len(tokenizer), max_position_embeddings=2048)
    del text["head_dim"]
    text |= {"rope_scaling": {"type": "default", "mrope_section": [2, 3, 3]}, "rope_theta": 1e6}
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH}
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, hidden_size=WIDTH, vocab_size=len(tokenizer))
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(8, 4, 4),
    )
    return QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="exponential"),
        vae=qwen_vae(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


class FlowTransformerPipeline(DiffusionPipeline):
    """A class-conditional transformer that predicts velocities, as those of SiT do."""

    def __init__(self, transformer, vae, scheduler, id2label=None):
        super().__init__()
        self.register_modules(transformer=transformer, vae=vae, scheduler=scheduler)
        self.register_to_config(id2label=id2label)

    @torch.no_grad()
    def __call__(self, class_labels, num_inference_steps=20, generator=None):
        latents = randn_tensor((len(class_labels), 4, 8, 8), generator=generator)
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            times = t.expand(len(latents))
            velocity = self.transformer(latents, timestep=times, class_labels=torch.tensor(class_labels)).sample
            latents = self.scheduler.step(velocity, t, latents).prev_sample
        images = self.vae.decode(latents / self.vae.config.scaling_factor).sample
        return BaseOutput(images=(images / 2 + 0.5).clamp(0, 1))


def made(build, *arguments):
    """A pipeline of this module with random weights that are always the same, which shows no progress."""
    torch.manual_seed(0)
    pipeline = build(*arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def save_lora(pipeline, folder):
    """A LoRA of a pipeline's U-Net that changes its images, as diffusers saves one; the pipeline has it then."""
    pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    for name, weight in pipeline.unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    pipeline.save_lora_weights(folder, unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
