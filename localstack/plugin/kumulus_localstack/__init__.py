"""A LocalStack plugin. Python finds its entry points when the folder above is on PYTHONPATH; nothing is to be installed."""
