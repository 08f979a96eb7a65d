"""What tests share: builders of objects, played worlds, fakes of the outside."""
