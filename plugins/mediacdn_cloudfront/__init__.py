"""Links driver `cloudfront`: URLs and cookies that Amazon CloudFront verifies with the public half of our key."""

from mediacdn import Driver, hookimpl
from mediacdn_cloudfront.config import CloudFrontConfig
from mediacdn_cloudfront.driver import CloudFront, open_cloudfront

__all__ = ["CloudFront", "CloudFrontConfig", "mediacdn_drivers", "open_cloudfront"]


@hookimpl
def mediacdn_drivers() -> list[Driver]:
    return [Driver(seam="links", name="cloudfront", config=CloudFrontConfig, open=open_cloudfront)]
