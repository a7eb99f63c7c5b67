"""Confirmation: networks trained with fresh seeds on all training images and tested once."""
