"""The journey of a derivative: from a media and a step to another media, made once, durable before it is recorded, recorded under the lease it was made under."""
