"""What a cluster expects of an endpoint before it starts: the parameter that names the image of its nodes."""

import os

import boto3

NAME = "/kumulus/node/recommended/image_id"

endpoint = os.environ.get("AWS_ENDPOINT_URL") or f"http://{os.environ.get('LOCALSTACK_HOST', 'localhost:4566')}"
options = {
    "endpoint_url": endpoint,
    "region_name": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
    "aws_access_key_id": os.environ.get("AWS_ACCESS_KEY_ID", "test"),
    "aws_secret_access_key": "test",
}
ec2 = boto3.client("ec2", **options)
ssm = boto3.client("ssm", **options)
images = ec2.describe_images(Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
ubuntu = [one for one in images if "ubuntu" in one.get("Name", "").lower()] or images
ssm.put_parameter(Name=NAME, Value=ubuntu[0]["ImageId"], Type="String", Overwrite=True)
