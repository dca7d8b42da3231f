"""The system of the spike benchmark with the ladder off: full quality or nothing."""

from dataclasses import replace

from benchmarks import spike_system

system = replace(
    spike_system.system, serving=replace(spike_system.system.serving, degrade=("empty",))
)
