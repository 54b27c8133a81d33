"""The command that does the work, for one GPU, for the eight of one machine, and for sixty-four of eight machines.

dag-diffusion ...     the same --num-processes 8     accelerate launch ... -m dag_diffusion ..., once on each machine
"""

import re

GPUS, OF_A_MACHINE = (1, 8, 64), 8
PORT = 29500
PROCESSES = re.compile(r" --num-processes[ =]\d+")


def commands_for(command: str) -> dict[int, str]:
    """Number of GPUs to command for a shell.

    Args:
        command: that does it, such as ``dag-diffusion run --output runs/woof``, on however many.
    """
    command = PROCESSES.sub("", command)
    program, _, rest = command.partition(" ")
    machines = GPUS[-1] // OF_A_MACHINE
    launched = (
        f'accelerate launch --multi_gpu --num_machines {machines} --num_processes {GPUS[-1]} --machine_rank "$RANK" '
        f'--main_process_ip "$FIRST" --main_process_port {PORT} --mixed_precision no --dynamo_backend no '
        f"-m dag_diffusion {rest}"
    )
    return {
        1: command,
        OF_A_MACHINE: f"{program} {rest} --num-processes {OF_A_MACHINE}",
        GPUS[-1]: launched,
    }


def told(commands: dict[int, str]) -> list[str]:
    """Lines for a person, each command under a comment."""
    machines = GPUS[-1] // OF_A_MACHINE
    heads = {
        1: "# one GPU",
        OF_A_MACHINE: f"# {OF_A_MACHINE} GPUs of one machine",
        GPUS[
            -1
        ]: f"# {GPUS[-1]} GPUs: on each of {machines} machines that see the same disk, RANK being 0 to {machines - 1} "
        "and FIRST the address of the first",
    }
    return [line for count, command in commands.items() for line in (heads[count], command)]
