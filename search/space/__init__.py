"""What a search may try: configurations, recipe choices, and the candidates made of them."""
