"""The service's counters in Prometheus' text format, version 0.0.4."""

from jvlm.infer.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(service: Service) -> str:
    counters = service.counters
    outcomes = ("answered", "failed", "cancelled", "refused")
    families = [
        (
            "jvlm_requests_total",
            "counter",
            "Requests that came to an end, by how.",
            {f'{{outcome="{outcome}"}}': getattr(counters, outcome) for outcome in outcomes},
        ),
        ("jvlm_requests_running", "gauge", "Requests being answered.", {"": service.running}),
        ("jvlm_requests_waiting", "gauge", "Requests in the queue.", {"": service.waiting}),
        ("jvlm_prompt_tokens_total", "counter", "Tokens of prompts, images included.", {"": counters.prompt_tokens}),
        ("jvlm_generated_tokens_total", "counter", "Tokens of finished answers.", {"": counters.generated_tokens}),
        ("jvlm_engine_steps_total", "counter", "Steps of one token for every running answer.", {"": counters.steps}),
        (
            "jvlm_answer_seconds",
            "summary",
            "From a request's arrival to the end of its answer.",
            {"_sum": counters.answer_seconds, "_count": counters.answered},
        ),
    ]
    lines = []
    for name, kind, help_text, values in families:
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]
        lines += [f"{name}{suffix} {value}" for suffix, value in values.items()]
    return "\n".join(lines) + "\n"
