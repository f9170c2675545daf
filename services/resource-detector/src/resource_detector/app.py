"""`uvicorn resource_detector.app:app`."""

from compute_common.shell import create_app
from resource_detector.service import ResourceDetector
from resource_detector.settings import Settings

app = create_app(ResourceDetector(Settings()))
