"""Services that LocalStack's free edition does not have, answered by the moto that comes with it.

Each is a Service whose skeleton hands every operation of AWS's model to moto. (A fallback dispatcher over an empty provider does not
work: it knows only the operations that the provider's class names.)
"""

from localstack.aws.skeleton import Skeleton
from localstack.aws.spec import load_service
from localstack.services.moto import _proxy_moto
from localstack.services.plugins import Service, aws_provider


def _by_moto(name: str) -> Service:
    model = load_service(name)
    return Service(name, skeleton=Skeleton(model, {operation: _proxy_moto for operation in model.operation_names}))


@aws_provider()
def elbv2():
    return _by_moto("elbv2")


@aws_provider()
def autoscaling():
    return _by_moto("autoscaling")


@aws_provider()
def ecr():
    return _by_moto("ecr")


@aws_provider(api="iam", name="moto")
def iam():
    """For PROVIDER_OVERRIDE_IAM=moto: LocalStack's own IAM keeps instance profiles where its EC2, which is moto's, does not look."""
    return _by_moto("iam")
