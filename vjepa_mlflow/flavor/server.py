"""Where MLflow's scoring server asks this package instead of the model."""

import inspect
import weakref
from collections.abc import MutableMapping
from typing import Any

from vjepa_mlflow.flavor.service import App, Receive, Send, Service
from vjepa_mlflow.flavor.video_classifier import VideoClassifier

PLACE = "/invocations"

_SERVICES: "weakref.WeakKeyDictionary[VideoClassifier, Service]" = weakref.WeakKeyDictionary()
_APPS: "weakref.WeakKeyDictionary[Any, Service | None]" = weakref.WeakKeyDictionary()


def serve(classifier: VideoClassifier, service: Service) -> None:
    """Has the scoring server that this process is leave requests for a classifier's predictions to a service.

    The server makes its application once the model is loaded, and has no other place for a model to say how.
    """
    import fastapi
    from starlette.middleware import Middleware

    plain = fastapi.FastAPI

    class GuardedApp(plain):  # type: ignore[misc, valid-type]
        def __init__(self, **options: Any):
            fastapi.FastAPI = plain  # type: ignore[misc]
            super().__init__(**options)
            self.user_middleware.append(Middleware(Guard))

    fastapi.FastAPI = GuardedApp  # type: ignore[misc]
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
    """That of the model that a server was made for, which stands nowhere but in the function that answers."""
    if app not in _APPS:
        endpoints = [inspect.unwrap(route.endpoint) for route in app.routes if getattr(route, "path", "") == PLACE]
        models = [inspect.getclosurevars(endpoint).nonlocals.get("model") for endpoint in endpoints]
        made_of = [getattr(model, "_model_impl", None) for model in models]
        services = [_SERVICES[one] for one in made_of if isinstance(one, VideoClassifier) and one in _SERVICES]
        _APPS[app] = services[0] if services else None
    return _APPS[app]
