#!/bin/sh
# main
