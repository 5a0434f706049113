"""Make the automatic masks of many images, from a laptop to a cluster, and keep them as Parquet.

`AutomaskJob` plans the work once, in shards of images. A shard is a pure function of the plan: it
reads its images and writes one Parquet file, so that any engine may run it, and run it again.
"""

from typing import TYPE_CHECKING

from samjax._lazy import lazy

if TYPE_CHECKING:
    from samjax.jobs.automask import AutomaskJob, JobReport, JobStatus
    from samjax.jobs.export import export_results
    from samjax.jobs.results import read_failures, read_results
    from samjax.jobs.shard import ShardReport

__all__ = [
    "AutomaskJob",
    "JobReport",
    "JobStatus",
    "ShardReport",
    "export_results",
    "read_failures",
    "read_results",
]

__getattr__ = lazy(
    __name__,
    {
        "AutomaskJob": "samjax.jobs.automask",
        "JobReport": "samjax.jobs.automask",
        "JobStatus": "samjax.jobs.automask",
        "ShardReport": "samjax.jobs.shard",
        "export_results": "samjax.jobs.export",
        "read_failures": "samjax.jobs.results",
        "read_results": "samjax.jobs.results",
    },
)
