"""An S3 server that checks signatures and policies and knows object lock; answers one line for each line that it reads."""
import json
import os
import sys

os.environ["AWS_DEFAULT_REGION"] = "eu-central-1"
import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import settings
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://127.0.0.1:{port}"
retries = Config(retries={"max_attempts": 0})


def client(service, key):
    return boto3.client(
        service, endpoint_url=url, aws_access_key_id=key[0], aws_secret_access_key=key[1], config=retries
    )


def user(name, actions):
    iam.create_user(UserName=name)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return key["AccessKeyId"], key["SecretAccessKey"]


iam = client("iam", ("setup", "setup"))
s3 = client("s3", ("setup", "setup"))
where = {"LocationConstraint": "eu-central-1"}
s3.create_bucket(Bucket="bank-log", ObjectLockEnabledForBucket=True, CreateBucketConfiguration=where)
s3.create_bucket(Bucket="open-log", CreateBucketConfiguration=where)
everything = user("everything", "s3:*")
bank = user("bank", ["s3:GetObject", "s3:PutObject", "s3:PutObjectRetention"])
# From here on every request is judged by its signature and its user's policy.
settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
s3 = client("s3", everything)
print(json.dumps({"port": port, "key": bank[0], "secret": bank[1]}), flush=True)


def answer(asked):
    do, bucket = asked["do"], asked.get("bucket", "bank-log")
    try:
        if do == "list":
            found = s3.list_object_versions(Bucket=bucket).get("Versions", [])
            items = []
            for one in found:
                item = {"key": one["Key"], "version": one["VersionId"], "latest": one["IsLatest"]}
                asked = {"Bucket": bucket, "Key": one["Key"], "VersionId": one["VersionId"]}
                try:
                    held = s3.head_object(**asked)
                except ClientError:
                    held = {}
                item["mode"] = held.get("ObjectLockMode")
                until = held.get("ObjectLockRetainUntilDate")
                item["until"] = until.isoformat() if until else None
                items.append(item)
            return {"items": items}
        if do == "delete":
            s3.delete_object(Bucket=bucket, Key=asked["key"], VersionId=asked["version"])
            return {"done": True}
        if do == "put":
            more = {"IfNoneMatch": "*"} if asked.get("once") else {}
            s3.put_object(Bucket=bucket, Key=asked["key"], Body=asked["text"].encode(), ChecksumAlgorithm="SHA256", **more)
            return {"done": True}
        if do == "shorten":
            until = {"Mode": asked["mode"], "RetainUntilDate": asked["until"]}
            s3.put_object_retention(Bucket=bucket, Key=asked["key"], VersionId=asked["version"], Retention=until)
            return {"done": True}
        return {"error": "unknown"}
    except ClientError as error:
        return {"error": error.response["Error"]["Code"]}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
server.stop()
