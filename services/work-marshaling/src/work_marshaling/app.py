"""`uvicorn work_marshaling.app:app`."""

from compute_common.shell import create_app
from work_marshaling.service import WorkMarshaling
from work_marshaling.settings import Settings

app = create_app(WorkMarshaling(Settings()))
