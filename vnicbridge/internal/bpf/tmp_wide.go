package bpf

const BridgeMapWide = "wide"
