"""Where MLflow's scoring server asks this package instead of the model."""

import weakref
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from mlflow.pyfunc import PyFuncModel

from vjepa_mlflow.flavor.service import App, Receive, Send, Service
from vjepa_mlflow.flavor.video_classifier import VideoClassifier
from vjepa_mlflow.internals.mlflow_private_server import PLACE, add_to_next_app, models_of

_SERVICES: "weakref.WeakKeyDictionary[VideoClassifier, Service]" = weakref.WeakKeyDictionary()
_APPS: "weakref.WeakKeyDictionary[Any, Service | None]" = weakref.WeakKeyDictionary()


def serve(classifier: VideoClassifier, service: Service) -> None:
    """Has the scoring server that this process is leave requests for a classifier's predictions to a service.

    See `add_to_next_app` for what that changes in this process until the server has made its application.
    """
    add_to_next_app(Guard)
    _SERVICES[classifier] = service


class Guard:
    """Hands requests for predictions to the service of the model that the server was made for, if that has one.

    Args:
        app: the server's, in ASGI. What else it is asked, it answers itself.
    """

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        asked = scope["type"] == "http" and (scope["method"], scope["path"]) == ("POST", PLACE)
        service = _service_of(scope["app"]) if asked else None
        if service is None:
            await self._app(scope, receive, send)
        else:
            await service.answer(scope["headers"], receive, send)


def _service_of(app: Any) -> Service | None:
    """That of the model that a server was made for."""
    if app not in _APPS:
        services = [_SERVICES.get(classifier) for classifier in map(_classifier_of, models_of(app)) if classifier]
        _APPS[app] = services[0] if services else None
    return _APPS[app]


def _classifier_of(model: PyFuncModel) -> VideoClassifier | None:
    with suppress(NotImplementedError):  # of other flavours, some of whose models are not given out
        raw = model.get_raw_model()
        return raw if isinstance(raw, VideoClassifier) else None
    return None
