"""Tests that build images, or look at some; a package, so that they share their builders."""
