"""Differential privacy of a center's patients: training, ledger, planning and audit. The only importer of Opacus."""
