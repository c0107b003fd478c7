"""vLLM as an engine: in a process of its own, which is started when a model is opened and ends with it.

The worker that asks never imports vLLM (`engine` and `link` do not; only `host` does, which runs in the child): vLLM
changes what a process may do afterwards (it switches `torch.set_num_threads` off and binds memory), and only a process
that has ended surely gives a device's memory back.
"""
