"""The only Litestar code besides app.py: translate, call a journey, translate back."""
