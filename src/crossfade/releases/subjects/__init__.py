"""Subjects: what is released. The engine moves traffic; a subject says what traffic is about, and who has it."""
