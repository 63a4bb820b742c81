//! Every way a module, a device or a network in front of it goes wrong: real SoftHSM2 behind the fault-injecting shim.

mod shim_itself;
