"""POST /_kumulus/reset forgets everything, or with ?account=ID what one account holds. None of LocalStack's own endpoints does that."""

from localstack.http import Request, Response
from localstack.runtime import hooks


def _stores():
    from localstack.services.plugins import SERVICE_PLUGINS

    found = []

    class Collector:
        def visit(self, container):
            found.append(container)

    for name in SERVICE_PLUGINS.list_available():
        if not SERVICE_PLUGINS.is_running(name):
            continue
        service = SERVICE_PLUGINS.get_service(name)
        service.accept_state_visitor(Collector())
    return found


def reset(account: str | None) -> None:
    from moto.core.base_backend import BackendDict

    if account is None:
        BackendDict.reset()
    else:
        for backends in BackendDict._instances:
            if account in backends.keys():
                for backend in backends[account].values():
                    backend.reset()
    for store in _stores():
        if account is None and hasattr(store, "reset"):
            store.reset()
        elif account is not None and hasattr(store, "pop"):
            store.pop(account, None)


def _on_reset(request: Request) -> Response:
    if request.headers.get("Origin"):
        return Response("requests of web pages are not answered\n", 403)
    reset(request.args.get("account") or None)
    return Response("", 204)


@hooks.on_infra_start()
def register():
    from localstack.services.edge import ROUTER

    ROUTER.add("/_kumulus/reset", _on_reset, methods=["POST"])
